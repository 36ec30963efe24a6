"""The training run: its specification, the trainer, batches and resuming."""
