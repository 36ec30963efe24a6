"""A vLLM load format that puts an adapter into the base while it loads: merged, as blocks, or as virtual tokens.

vLLM calls `register` in each of its processes through the entry point `vllm.general_plugins`. The loader is vLLM's
own but for a step between disk and model (merged weights, enlarged embeddings) and one after it (blocks beside
sublayers), so start-up costs what the base's costs, nothing is written to disk, and tensor parallelism,
`reload_weights` and the like keep working.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from peft_eval.errors import RouteError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import torch

LOAD_FORMAT = "peft_eval"
_ADAPTER_KEY, _ROUTE_KEY = "adapter", "route"


def engine_arguments(
    adapter_folder: Path,
    route: str,
    *,
    config_overrides: dict[str, Any] | None = None,
    graph: Any = None,
) -> dict[str, Any]:
    """Returns the arguments for `vllm.LLM` that put this adapter into `model=` while it loads.

    Args:
        adapter_folder: a peft-format adapter.
        route: `merge`, `wrapped` or `prompt`.
        config_overrides: settings of the base's config that differ with the adapter.
        graph: what else tells the model's graph from the base's, as JSON.
    """
    loading = {_ADAPTER_KEY: str(adapter_folder), _ROUTE_KEY: route}
    arguments: dict[str, Any] = {"load_format": LOAD_FORMAT, "model_loader_extra_config": loading}
    if config_overrides:
        arguments["hf_overrides"] = dict(config_overrides)
    if config_overrides or graph is not None:
        # vLLM reuses compiled graphs of equal configurations; `additional_config` is among what it compares.
        arguments["additional_config"] = {LOAD_FORMAT: [config_overrides, graph]}
    return arguments


def with_route(options: dict[str, Any], route_arguments: dict[str, Any]) -> dict[str, Any]:
    """Adds a route's engine arguments to the user's.

    Raises:
        RouteError: the user sets what the route needs to set.
    """
    joined = dict(options)
    for name, ours in route_arguments.items():
        theirs = options.get(name)
        both = isinstance(ours, dict) and isinstance(theirs, dict) and not ours.keys() & theirs.keys()
        if theirs is not None and not both:
            raise RouteError(
                f"{name}={theirs!r} cannot be set beside peft=", place="--model_args", remedy="leave it out"
            )
        joined[name] = {**theirs, **ours} if theirs is not None and both else ours
    return joined


def register() -> None:
    """Makes the load format known to vLLM; called by vLLM in each of its processes."""
    from vllm.model_executor import model_loader

    if LOAD_FORMAT not in model_loader._LOAD_FORMAT_TO_MODEL_LOADER:
        model_loader.register_model_loader(LOAD_FORMAT)(_adapting_loader())


def _adapting_loader() -> type:
    from dataclasses import replace

    from vllm.config import ModelConfig
    from vllm.config.load import LoadConfig
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
    from vllm.model_executor.model_loader.weight_utils import download_weights_from_hf

    class AdaptingLoader(DefaultModelLoader):
        """vLLM's default loader, with an adapter put in on the way and after it."""

        def __init__(self, load_config: LoadConfig):
            extra = dict(load_config.model_loader_extra_config or {})
            self._adapter_folder = Path(extra.pop(_ADAPTER_KEY))
            self._route = str(extra.pop(_ROUTE_KEY))
            super().__init__(replace(load_config, load_format="safetensors", model_loader_extra_config=extra))

        def get_all_weights(
            self, model_config: ModelConfig, model: torch.nn.Module
        ) -> Generator[tuple[str, torch.Tensor], None, None]:
            stream: Iterator[tuple[str, torch.Tensor]] = super().get_all_weights(model_config, model)
            if self._route == "merge":
                from peft_eval.merging.merger import AdapterMerger

                dtype = cast("torch.dtype", model_config.dtype)  # a name only until the config is built
                stream = AdapterMerger(self._adapter_folder, self._base(model_config), dtype=dtype).merged(stream)
            elif self._route == "prompt":
                from peft_eval.serving.virtual_tokens import read_prompt, with_prompt_rows

                base = self._base(model_config)
                config = _config_of(base)
                prompt = read_prompt(self._adapter_folder, config)
                stream = with_prompt_rows(stream, prompt, base, model_config.get_vocab_size() - config["vocab_size"])
            yield from stream

        def load_weights(self, model: torch.nn.Module, model_config: ModelConfig) -> None:
            super().load_weights(model, model_config)
            if self._route == "wrapped":
                from peft_eval.serving.blocks import read_blocks
                from peft_eval.serving.wrapping import place_blocks

                dtype = cast("torch.dtype", model_config.dtype)
                place_blocks(model, read_blocks(self._adapter_folder), dtype)
            elif self._route == "prompt":
                from peft_eval.serving.virtual_tokens import hide_virtual_tokens

                hide_virtual_tokens(model, _config_of(self._base(model_config))["vocab_size"])

        def _base(self, model_config: ModelConfig) -> Path:
            if Path(model_config.model).is_dir():
                return Path(model_config.model)
            return Path(
                download_weights_from_hf(
                    model_config.model, self.load_config.download_dir, ["*.safetensors"], model_config.revision
                )
            )

    return AdaptingLoader


def _config_of(base: Path) -> dict[str, Any]:
    from peft_eval.checkpoint.reading import read_json

    return read_json(base / "config.json")
