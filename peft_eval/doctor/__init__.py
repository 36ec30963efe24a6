"""Checks of an environment and of a checkpoint, each with its remedy."""
