"""Conversations in the `messages` format: files, or data sets on the hub."""
