"""The bags that an evaluation tests."""
