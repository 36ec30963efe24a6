"""Running model-written Python: in a sandbox, many programs at a time, or not at all.

`choose_backend` finds what isolates on this host and proves it; `run_programs` runs programs in it and says of each
whether it came to its end.
"""

from peft_eval.sandbox.choice import choose_backend
from peft_eval.sandbox.program import Limits, Outcome
from peft_eval.sandbox.run import run_programs

__all__ = ["Limits", "Outcome", "choose_backend", "run_programs"]
