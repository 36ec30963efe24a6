"""Putting a method on a model and moving its weights away from their start."""

from __future__ import annotations

from typing import Any

import torch


def adapt(method: Any, model: Any, **options: Any) -> Any:
    """Returns the model as the method prepares it, in evaluation mode."""
    return method.prepare(model, method.fit(model, method.options(**options)), base_id="").eval()


@torch.no_grad()
def disturb(model: Any, scale: float = 0.05) -> None:
    """Adds noise to every weight in training, the same at each call."""
    noise = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.add_(scale * torch.randn(weight.shape, generator=noise))
