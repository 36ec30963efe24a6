"""The peft-eval command, one file per subcommand."""
