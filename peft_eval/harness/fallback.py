"""`--model vllm` for what vLLM does not serve: the same command goes on with transformers and peft, and says so."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_eval.serving.route import Route, engine_obstacle

if TYPE_CHECKING:
    from peft_eval.harness.hf_model import PeftHFLM

logger = logging.getLogger(__name__)

_CALLED_OTHERWISE = {"max_model_len": "max_length"}


def start_on_hf(route: Route | None, arguments: dict[str, Any]) -> PeftHFLM:
    """Starts lm-eval's HF class in vLLM's place.

    Args:
        route: how the checkpoint is served; None for a plain base.
        arguments: as given for vLLM; those that only vLLM knows are dropped, by name in the log.
    """
    from peft_eval.harness.hf_model import PeftHFLM

    reason = route.reason if route else engine_obstacle(Path(str(arguments["pretrained"])))
    logger.warning("%s runs on --model hf: %s", arguments.get("peft") or arguments["pretrained"], reason)
    known = {name for one in PeftHFLM.__mro__ for name in inspect.signature(one.__init__).parameters}
    known -= {"self", "args", "kwargs", "options"}
    kept: dict[str, Any] = {}
    dropped = []
    for name, value in arguments.items():
        name_there = _CALLED_OTHERWISE.get(name, name)
        if name_there in known:
            kept[name_there] = value
        else:
            dropped.append(f"{name}={value}")
    if dropped:
        logger.warning("--model hf does not know, and leaves out: %s", ", ".join(dropped))
    if str(kept.get("batch_size", 1)) == "1":
        logger.warning("prompts run one at a time; --batch_size N is faster")
    return PeftHFLM(**{**kept, "route": route} if route else kept)
