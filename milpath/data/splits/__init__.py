"""Training, validation and test splits, and the tables of labels and groups they depend on."""
