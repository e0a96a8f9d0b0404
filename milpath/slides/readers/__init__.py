"""Slide files of every format behind one interface."""
