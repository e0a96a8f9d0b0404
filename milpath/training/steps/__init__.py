"""What a step of training needs: the loop round it, its seed, its threads and that of the optimizer."""
