"""What a label, an embedding or a result has to do with who made the slide: tests by permutation, and their effect sizes."""
