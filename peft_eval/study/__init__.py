"""Comparing runs: what each question scored, and whether a difference is more than chance."""
