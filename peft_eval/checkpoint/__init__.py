"""What comes out of training: the manifest, and reading a checkpoint safely."""
