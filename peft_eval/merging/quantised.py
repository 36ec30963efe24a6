"""The base as a QLoRA adapter saw it: its linear weights quantised to 4 bits, then put back into numbers.

An adapter trained on a quantised base (arXiv 2305.14314) corrects that base, not the one on disk. So wherever such an
adapter is merged, served or compared, the base's weights go through the same quantisation first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from peft_eval.checkpoint.manifest import MANIFEST_NAME, Manifest, QuantizationRecord
from peft_eval.errors import RouteError

BLOCK_WEIGHTS = 64  # bitsandbytes' and QLoRA's block size


class QuantisedBase:
    """Turns a base's tensors into those that training computed with.

    Args:
        record: how the base was quantised.
        model: a plain model of the base's architecture, for the names of its linear layers.
    """

    def __init__(self, record: QuantizationRecord, model: nn.Module):
        self._record = record
        kept = set(record.kept_modules)
        self.names = {
            f"{name}.weight"
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and name not in kept
        }

    def seen(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the tensor as training saw it, in its own dtype; tensors that were not quantised pass as they are.

        Raises:
            RouteError: bitsandbytes is not installed.
        """
        if name not in self.names:
            return tensor
        functional = _bitsandbytes()
        packed, state = functional.quantize_4bit(
            tensor.detach().cpu().to(getattr(torch, self._record.dtype)).contiguous(),
            blocksize=BLOCK_WEIGHTS,
            compress_statistics=self._record.double,
            quant_type=self._record.scheme,
        )
        return functional.dequantize_4bit(packed, state).to(device=tensor.device, dtype=tensor.dtype)

    @torch.no_grad()
    def apply(self, model: nn.Module) -> None:
        """Puts the seen weights into a loaded model, in place; it may have the adapter on it already."""
        for name, parameter in model.named_parameters():
            plain = name.replace(".base_layer.", ".")
            if plain in self.names:
                parameter.copy_(self.seen(plain, parameter))


def quantised_base(adapter_folder: Path, model: nn.Module) -> QuantisedBase | None:
    """Returns how an adapter's manifest says its base was quantised, None if it says nothing of the kind.

    Args:
        adapter_folder: the checkpoint.
        model: a plain model of the base's architecture.
    """
    if not (adapter_folder / MANIFEST_NAME).is_file():
        return None
    record = Manifest.read(adapter_folder).base.quantization
    return QuantisedBase(record, model) if record else None


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes.functional
    except ImportError as error:
        raise RouteError(
            "the adapter was trained on a quantised base, and bitsandbytes is not there to quantise it again",
            remedy="pip install peft-eval[qlora]",
        ) from error
    return bitsandbytes.functional
