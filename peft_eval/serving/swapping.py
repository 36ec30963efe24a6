"""Another checkpoint in an engine that runs: its weights go in place of the last one's.

Starting an engine takes vLLM half a minute; putting other weights into one that runs takes well under a second for a
small model. Only the modules that the last or the next checkpoint changes are loaded again, from the base's files and
through the adapter, by vLLM's own reload, which keeps graphs valid that were compiled or captured. Whoever swaps holds
the probe against the engine before a task is asked.

`SwappingWorker` is mixed into vLLM's workers (`worker_extension_cls`) and runs in their processes.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_eval.serving.loader import HELD, Adaptation, Held, Loading

if TYPE_CHECKING:
    import torch

WORKER_EXTENSION = "peft_eval.serving.swapping.SwappingWorker"


class SwappingWorker:
    """What a worker of vLLM can do besides."""

    def peft_eval_put_in(self: Any, weights: str, loading: dict[str, Any]) -> dict[str, Any]:
        """Puts a checkpoint into this worker's model, in place of the one that is there.

        Args:
            weights: a folder with weights of the engine's architecture.
            loading: what is put in on the way, as `Loading.as_extra` says it.

        Returns:
            `seconds`, and how many of vLLM's `modules` were loaded again, None for all of them.
        """
        started = time.perf_counter()
        config = self.vllm_config
        modules = _put_in(self.model_runner.get_model(), config, Path(weights), Loading.taken_from(dict(loading)))
        _start_again(self)
        return {"seconds": time.perf_counter() - started, "modules": modules}


def _start_again(worker: Any) -> None:
    """Leaves a worker as a start leaves it: nothing cached of the last weights, random numbers from the seed."""
    from vllm.utils.torch_utils import set_random_seed

    for forget in ("reset_lora_state", "reset_encoder_cache", "reset_mm_cache"):
        if hasattr(worker.model_runner, forget):
            getattr(worker.model_runner, forget)()
    set_random_seed(worker.model_config.seed)


def _put_in(model: torch.nn.Module, config: Any, weights: Path, loading: Loading) -> int | None:
    import torch
    from vllm.config import set_current_vllm_config

    from peft_eval.serving.wrapping import remove_blocks

    dtype = config.model_config.dtype
    before: Held = getattr(model, HELD)
    adaptation = Adaptation(loading, weights, dtype)
    with set_current_vllm_config(config), torch.no_grad(), _quiet_reload():
        if loading.route != "wrapped":
            remove_blocks(model)
        modules = None
        if before.weights == weights and before.changed is not None and adaptation.changed is not None:
            modules = _modules_of(model, weights, before.changed | adaptation.changed)
        _reload(model, config.model_config, weights, adaptation, modules)
        adaptation.finish(model)
    return None if modules is None else len(modules)


def _modules_of(model: torch.nn.Module, weights: Path, names: frozenset[str]) -> dict[str, list[str]] | None:
    """Returns the engine's modules that hold some tensors, each with all of the folder's tensors that go into it.

    None: some of them cannot be told, or are shared by modules; then all are loaded again.
    """
    from peft_eval.merging.skeleton import base_tensor_shapes

    places: dict[str, list[str]] = {}
    wanted = set()
    for name in base_tensor_shapes(weights):
        place = _module_in_engine(model, name)
        if place is None and name in names:
            return None
        if place is not None:
            places.setdefault(place, []).append(name)
            if name in names:
                wanted.add(place)
    found = {place: places[place] for place in sorted(wanted)}
    return None if any(_holds_vocabulary(model.get_submodule(place)) for place in found) else found


def _holds_vocabulary(module: torch.nn.Module) -> bool:
    """Tells whether a module holds embeddings, which an output layer may share."""
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    return isinstance(module, VocabParallelEmbedding)


def _module_in_engine(model: torch.nn.Module, name: str) -> str | None:
    """Returns the engine's module that a tensor of the files goes into, None if it cannot be told."""
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    mapped = (mapper.map_name(name) if mapper is not None else None) or name
    path = mapped.rpartition(".")[0]
    above, _, leaf = path.rpartition(".")
    packed = {part: whole for whole, parts in getattr(model, "packed_modules_mapping", {}).items() for part in parts}
    candidates = [path, f"{above}.{packed[leaf]}"] if leaf in packed else [path]
    for candidate in candidates:
        with contextlib.suppress(AttributeError):
            module = model.get_submodule(candidate)
            if not any(True for _ in module.children()):
                return candidate
    return None


def _reload(
    model: torch.nn.Module,
    model_config: Any,
    weights: Path,
    adaptation: Adaptation,
    modules: dict[str, list[str]] | None,
) -> None:
    """Loads modules again, all of the model's if `modules` is None."""
    from vllm.model_executor.model_loader.reload.layerwise import finalize_layerwise_reload, initialize_layerwise_reload

    if modules is not None and not modules:
        return
    parts: Sequence[torch.nn.Module] = [model] if modules is None else [model.get_submodule(one) for one in modules]
    names = None if modules is None else {name for held in modules.values() for name in held}
    for part in parts:
        initialize_layerwise_reload(part)
    stream = adaptation.stream(stored(weights, names), whole=names is None)
    model.load_weights(stream)  # type: ignore[operator]  # vLLM's models have it
    for part in parts:
        finalize_layerwise_reload(part, model_config)
    if modules is None:
        _pack_output_layers(model)


def _pack_output_layers(model: torch.nn.Module) -> None:
    """Lets output layers see the embeddings that they share.

    The files hold such a tensor once, so vLLM's reload loads no weight of the output layer and leaves the form in which
    its CPU kernel holds the last ones.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod, VocabParallelEmbedding

    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if isinstance(module, VocabParallelEmbedding) and isinstance(method, UnquantizedEmbeddingMethod):
            method.process_weights_after_loading(module)


def stored(folder: Path, names: set[str] | None) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields names and values of a model folder's tensors, all or those of some names."""
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                if names is None or name in names:
                    yield name, opened.get_tensor(name)


@contextlib.contextmanager
def _quiet_reload() -> Iterator[None]:
    """Keeps vLLM from warning of each module that was left as it is."""
    logger = logging.getLogger("vllm.model_executor.model_loader.reload.layerwise")
    usual = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(usual)
