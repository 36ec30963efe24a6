"""What a checkpoint is trained on: sources of examples, their encodings, and fetching them."""
