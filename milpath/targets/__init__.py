"""What a bag is asked: label columns, outputs of the network, predictions."""
