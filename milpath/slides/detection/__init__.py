"""Where the tissue of a slide is: glass, stain, marker ink, black padding and sharpness."""
