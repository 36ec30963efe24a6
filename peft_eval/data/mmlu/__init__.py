"""MMLU: its subjects and its files."""
