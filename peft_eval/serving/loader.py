"""A vLLM load format that merges an adapter while the base's weights stream from disk.

vLLM calls `register` in each of its processes through the entry point `vllm.general_plugins`. The
loader is vLLM's own but for one step between disk and model, so start-up costs what the base's
costs, nothing is written to disk, and tensor parallelism, `reload_weights` and the like keep working.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch

LOAD_FORMAT = "peft_eval_merge"
_ADAPTER_KEY = "adapter"


def engine_arguments(adapter_folder: Path) -> dict[str, Any]:
    """Returns the arguments for `vllm.LLM` that merge this adapter into `model=` while it loads."""
    return {"load_format": LOAD_FORMAT, "model_loader_extra_config": {_ADAPTER_KEY: str(adapter_folder)}}


def register() -> None:
    """Makes the load format known to vLLM; called by vLLM in each of its processes."""
    from vllm.model_executor import model_loader

    if LOAD_FORMAT not in model_loader._LOAD_FORMAT_TO_MODEL_LOADER:
        model_loader.register_model_loader(LOAD_FORMAT)(_merging_loader())


def _merging_loader() -> type:
    from dataclasses import replace

    from vllm.config import ModelConfig
    from vllm.config.load import LoadConfig
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
    from vllm.model_executor.model_loader.weight_utils import download_weights_from_hf

    class MergingLoader(DefaultModelLoader):
        """vLLM's default loader with the adapter's delta added to each tensor on its way."""

        def __init__(self, load_config: LoadConfig):
            extra = dict(load_config.model_loader_extra_config or {})
            self._adapter_folder = Path(extra.pop(_ADAPTER_KEY))
            super().__init__(replace(load_config, load_format="safetensors", model_loader_extra_config=extra))

        def get_all_weights(
            self, model_config: ModelConfig, model: torch.nn.Module
        ) -> Generator[tuple[str, torch.Tensor], None, None]:
            from peft_eval.merging.merger import AdapterMerger

            base = Path(model_config.model)
            if not base.is_dir():
                base = Path(
                    download_weights_from_hf(
                        model_config.model, self.load_config.download_dir, ["*.safetensors"], model_config.revision
                    )
                )
            dtype = cast("torch.dtype", model_config.dtype)  # a name only until the config is built
            merger = AdapterMerger(self._adapter_folder, base, dtype=dtype)
            yield from merger.merged(super().get_all_weights(model_config, model))

    return MergingLoader
