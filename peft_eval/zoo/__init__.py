"""Shared checkpoints: a folder with an index, cards, and ways to fetch from and send to elsewhere."""
