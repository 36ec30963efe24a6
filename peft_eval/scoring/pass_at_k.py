"""Pass@k: the chance that at least one of k samples passes, estimated without bias from n samples.

Source: Chen et al. 2021, "Evaluating Large Language Models Trained on Code" (arXiv 2107.03374), equation 1.
"""

from __future__ import annotations

from math import comb


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Returns 1 - C(n-c, k) / C(n, k) for one problem, computed in whole numbers.

    Args:
        samples: n, how many samples were run.
        passed: c, how many of them passed.
        k: how many one may try.

    Raises:
        ValueError: not 1 <= k <= n or not 0 <= c <= n.
    """
    if not 1 <= k <= samples or not 0 <= passed <= samples:
        raise ValueError(f"no pass@{k} of {samples} samples of which {passed} passed")
    return 1.0 - comb(samples - passed, k) / comb(samples, k)
