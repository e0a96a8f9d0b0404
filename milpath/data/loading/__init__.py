"""Loading of batches from a store to the device."""
