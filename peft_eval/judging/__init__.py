"""Judges of answers: models behind an OpenAI-compatible endpoint, classifiers and causal LMs run here."""
