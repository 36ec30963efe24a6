"""peft-eval: how good is this checkpoint, and which PEFT method should I use?"""

__version__ = "0.1.0"
