"""Imports what a cell's process needs, silently: what the server of those processes does once, before it forks any."""

from peft_eval.training.quiet import quiet

with quiet():
    import peft_eval.study.contamination
    import peft_eval.training.run
    import peft_eval.training.trainer  # noqa: F401
