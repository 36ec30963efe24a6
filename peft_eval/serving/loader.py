"""A vLLM load format that puts an adapter into the base while it loads: merged, as blocks, or as virtual tokens.

vLLM calls `register` in each of its processes through the entry point `vllm.general_plugins`. The loader is vLLM's
own but for a step between disk and model (merged weights, enlarged embeddings) and one after it (blocks beside
sublayers), so start-up costs what the base's costs, nothing is written to disk, and tensor parallelism,
`reload_weights` and the like keep working. `peft_eval.serving.swapping` uses the same two steps to put another
checkpoint into a model that runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from peft_eval.checkpoint.reading import read_json
from peft_eval.errors import RouteError
from peft_eval.serving.parent_watch import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    import torch

    from peft_eval.merging.merger import AdapterMerger

LOAD_FORMAT = "peft_eval"
HELD = "peft_eval_held"  # the attribute of a worker's model that says what it holds
_ADAPTER_KEY, _ROUTE_KEY, _ROWS_KEY = "adapter", "route", "virtual_rows"


@dataclass(frozen=True, slots=True)
class Loading:
    """What is put into a model between disk and engine, as `model_loader_extra_config` says it.

    Attributes:
        route: `merge`, `wrapped`, `prompt`, or `plain` for the model folder's own weights.
        adapter: a peft-format adapter's folder, None for `plain`.
        virtual_rows: how many rows the engine's vocabulary has behind the base's, for virtual tokens.
    """

    route: str = "plain"
    adapter: str | None = None
    virtual_rows: int = 0

    @classmethod
    def taken_from(cls, extra: dict[str, Any]) -> Loading:
        """Takes what is ours out of a loader's extra configuration and leaves the rest there."""
        adapter = extra.pop(_ADAPTER_KEY, None)
        return cls(str(extra.pop(_ROUTE_KEY, "plain")), adapter, int(extra.pop(_ROWS_KEY, 0)))

    def as_extra(self) -> dict[str, Any]:
        """Returns it as a loader's extra configuration."""
        return {_ROUTE_KEY: self.route, _ADAPTER_KEY: self.adapter, _ROWS_KEY: self.virtual_rows}

    @property
    def adapter_folder(self) -> Path:
        """The adapter's folder; there is one on every route but `plain`."""
        assert self.adapter is not None
        return Path(self.adapter)


def engine_arguments(
    adapter_folder: Path,
    route: str,
    *,
    config_overrides: dict[str, Any] | None = None,
    graph: Any = None,
    virtual_rows: int = 0,
) -> dict[str, Any]:
    """Returns the arguments for `vllm.LLM` that put this adapter into `model=` while it loads.

    Args:
        adapter_folder: a peft-format adapter.
        route: `merge`, `wrapped` or `prompt`.
        config_overrides: settings of the base's config that differ with the adapter.
        graph: what else tells the model's graph from the base's, as JSON.
        virtual_rows: how many virtual tokens the engine's vocabulary has room for.
    """
    loading = Loading(route, str(adapter_folder), virtual_rows).as_extra()
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
    """Makes the load format known to vLLM; called by vLLM in each of its processes, which end with their parent."""
    end_with_parent()
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
        """vLLM's default loader, with a checkpoint put in on the way and after it."""

        def __init__(self, load_config: LoadConfig):
            end_with_parent()  # where vLLM forks its engine, `register` was called before
            extra = dict(load_config.model_loader_extra_config or {})
            self._loading = Loading.taken_from(extra)
            self._adapted: Adaptation | None = None
            super().__init__(replace(load_config, load_format="safetensors", model_loader_extra_config=extra))

        def get_all_weights(
            self, model_config: ModelConfig, model: torch.nn.Module
        ) -> Generator[tuple[str, torch.Tensor], None, None]:
            yield from self._adaptation(model_config).stream(super().get_all_weights(model_config, model))

        def load_weights(self, model: torch.nn.Module, model_config: ModelConfig) -> None:
            super().load_weights(model, model_config)
            self._adaptation(model_config).finish(model)

        def _adaptation(self, model_config: ModelConfig) -> Adaptation:
            if self._adapted is None:
                dtype = cast("torch.dtype", model_config.dtype)  # a name only until the config is built
                self._adapted = Adaptation(self._loading, self._base(model_config), dtype)
            return self._adapted

        def _base(self, model_config: ModelConfig) -> Path:
            if Path(model_config.model).is_dir():
                return Path(model_config.model)
            return Path(
                download_weights_from_hf(
                    model_config.model, self.load_config.download_dir, ["*.safetensors"], model_config.revision
                )
            )

    return AdaptingLoader


class Adaptation:
    """What makes a checkpoint's model out of its base's while the base's tensors are on their way, and after.

    Args:
        loading: what to put in.
        base: the folder that the tensors come from.
        dtype: the engine's.
    """

    def __init__(self, loading: Loading, base: Path, dtype: torch.dtype):
        self._loading, self._base, self._dtype = loading, base, dtype

    @cached_property
    def _merger(self) -> AdapterMerger | None:
        if self._loading.route != "merge":
            return None
        import torch

        from peft_eval.merging.merger import AdapterMerger

        usual = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)  # vLLM sets its own while it loads, and merging is tried in float32
        try:
            return AdapterMerger(self._loading.adapter_folder, self._base, dtype=self._dtype)
        finally:
            torch.set_default_dtype(usual)

    @property
    def changed(self) -> frozenset[str] | None:
        """Names of the base's tensors that are other ones in the engine; None if that is not all of the difference."""
        if self._merger is not None:
            return None if self._merger.extra_shapes else frozenset(self._merger.targets)
        return None if self._loading.route == "prompt" else frozenset()

    def stream(
        self, tensors: Iterable[tuple[str, torch.Tensor]], *, whole: bool = True
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields the checkpoint's tensors as the base's come by.

        Args:
            tensors: names and values of the base's tensors; those in `changed` at least.
            whole: whether they are all of them.
        """
        stream: Iterator[tuple[str, torch.Tensor]] = iter(tensors)
        if self._merger is not None:
            stream = self._merger.merged(stream)
        if self._loading.virtual_rows and whole:
            from peft_eval.serving.virtual_tokens import empty_prompt, read_prompt, with_prompt_rows

            config = read_json(self._base / "config.json")
            has_prompt = self._loading.route == "prompt"
            prompt = read_prompt(self._loading.adapter_folder, config) if has_prompt else empty_prompt(config)
            stream = with_prompt_rows(stream, prompt, self._base, self._loading.virtual_rows)
        yield from stream

    def finish(self, model: torch.nn.Module) -> None:
        """Does what comes after the weights: blocks beside sublayers, virtual tokens that are never sampled."""
        if self._loading.route == "wrapped":
            from peft_eval.serving.blocks import read_blocks
            from peft_eval.serving.wrapping import place_blocks

            place_blocks(model, read_blocks(self._loading.adapter_folder), self._dtype)
        if self._loading.virtual_rows:
            from peft_eval.serving.virtual_tokens import hide_virtual_tokens

            hide_virtual_tokens(model, read_json(self._base / "config.json")["vocab_size"])
        model.__dict__[HELD] = Held(self._base, self._loading, self.changed)


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker's model holds.

    Attributes:
        weights: the folder that its tensors came from.
        loading: what was put in.
        changed: as `Adaptation.changed`.
    """

    weights: Path
    loading: Loading
    changed: frozenset[str] | None
