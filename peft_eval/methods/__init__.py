"""What is trained: one file per method, found through the plugin hook."""
