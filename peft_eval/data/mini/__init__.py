"""Instruction tasks made by program: seeded, without files, in the schema of Super-NaturalInstructions."""
