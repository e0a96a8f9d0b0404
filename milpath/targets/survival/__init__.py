"""Survival: target, losses and what a checkpoint keeps of it."""
