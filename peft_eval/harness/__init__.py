"""The seam to lm-eval: its command, task folders, model classes and results."""
