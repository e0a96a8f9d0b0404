"""Parts of a training step: the loop around it, its seed, its threads and the step of the optimizer."""
