"""The metrics that tasks name."""
