"""A matrix held as a tensor train: a chain of small cores, arXiv 2402.11417's tensorised linear layer.

The matrix M, transposed to (in, out), is read row by row as a tensor of shape k₁ × ... × k_d, the factors of `in` and
then those of `out`, and is the product G₁ ⋯ G_d of cores G_i: (r_{i-1}, k_i, r_i), with r_0 = r_d = 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

_LARGEST_FACTOR = 8


def factors_of(size: int, *, largest: int = _LARGEST_FACTOR) -> list[int]:
    """Splits a size into factors of at most `largest`, as few and as even as its primes allow.

    A prime beyond `largest` stays whole, so every size has a split: a train with a long core instead of an error.
    """
    primes: list[int] = []
    rest, divisor = size, 2
    while rest > 1:
        if divisor * divisor > rest:
            divisor = rest
        if rest % divisor:
            divisor += 1
        else:
            primes.append(divisor)
            rest //= divisor
    factors: list[int] = []
    for prime in reversed(primes):  # the largest first, then fill up what has room
        room = [index for index, factor in enumerate(factors) if factor * prime <= largest]
        if room:
            factors[min(room, key=factors.__getitem__)] *= prime
        else:
            factors.append(prime)
    return sorted(factors) or [1]


def train_ranks(shape: Sequence[int], rank: int) -> list[int]:
    """Returns r_0 to r_d: `rank`, but nowhere more than the two sides of a cut can have."""
    return [
        min(rank, math.prod(shape[:cut]), math.prod(shape[cut:])) if 0 < cut < len(shape) else 1
        for cut in range(len(shape) + 1)
    ]


class TensorTrain(nn.Module):
    """A trained matrix (out, in) in tensor-train form.

    The cores start at N(0, 1) / √r_i · σ^(1/d) with σ² = 1 / (in + out), as in the authors' code, or with the last
    core at zero, and with it the matrix.

    Args:
        inputs: in.
        outputs: out.
        rank: the largest rank between two cores.
        zero: whether the matrix starts at zero.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, *, zero: bool = False):
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.shape = [*factors_of(inputs), *factors_of(outputs)]
        ranks = train_ranks(self.shape, rank)
        scale = math.sqrt(1 / (inputs + outputs)) ** (1 / len(self.shape))
        for index, size in enumerate(self.shape):
            core = torch.randn(ranks[index], size, ranks[index + 1]) / math.sqrt(ranks[index + 1]) * scale
            self.register_parameter(f"core{index}", nn.Parameter(core))
        if zero:
            nn.init.zeros_(self.cores()[-1])

    def cores(self) -> list[torch.Tensor]:
        """Returns the cores in order, each (r, k, r)."""
        return [getattr(self, f"core{index}") for index in range(len(self.shape))]

    def dense(self) -> torch.Tensor:
        """Returns the matrix: (out, in)."""
        return dense(self.cores(), self.inputs, self.outputs)


def dense(cores: Sequence[torch.Tensor], inputs: int, outputs: int) -> torch.Tensor:
    """Contracts cores to the matrix (out, in) that they stand for."""
    product = cores[0]
    for core in cores[1:]:
        product = torch.tensordot(product, core, dims=1)
    return product.reshape(inputs, outputs).T
