"""Super-NaturalInstructions: its files, its split, and the rules that say which instance is used for what."""
