"""Which bag is for training, validation and testing; tables of labels and groups."""
