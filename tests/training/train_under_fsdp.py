"""`peft-eval` under FSDP on CPU processes, which accelerate 1.15 allows on accelerators alone.

accelerate turns FSDP's settings into plain data parallelism where processes talk over gloo. torch's own FSDP works
there, so this tells accelerate's state what it would say of GPUs. Everything else is as `accelerate launch --use_fsdp`
sets it.
"""

import os
import sys
from typing import Any

from accelerate import state
from accelerate.utils import DistributedType

os.environ |= {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "LlamaDecoderLayer",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}
usual = state.AcceleratorState.__init__


def with_fsdp(self: Any, *args: Any, **options: Any) -> None:
    usual(self, *args, **options)
    if options.get("fsdp_plugin") is not None:
        self.fsdp_plugin = options["fsdp_plugin"]
        self.distributed_type = DistributedType.FSDP
        state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP


state.AcceleratorState.__init__ = with_fsdp  # type: ignore[method-assign]

from peft_eval.cli.main import main  # noqa: E402

sys.exit(main())
