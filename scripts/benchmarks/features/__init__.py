"""Trainings on bags of features, against the ways in which the field runs them."""
