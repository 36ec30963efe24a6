"""Base + adapter -> merged weights, one tensor at a time."""
