"""From a configuration to objects, and the results and folder of a run."""
