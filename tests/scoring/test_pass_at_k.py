"""Pass@k against its definition: the share of all draws of k samples with at least one that passes."""

from __future__ import annotations

from itertools import combinations

import pytest

from peft_eval.scoring.pass_at_k import pass_at_k


@pytest.mark.parametrize("samples", [1, 2, 5, 8])
def test_it_is_the_share_of_draws_with_one_that_passes(samples: int):
    for passed in range(samples + 1):
        verdicts = [True] * passed + [False] * (samples - passed)
        for k in range(1, samples + 1):
            draws = list(combinations(verdicts, k))
            assert pass_at_k(samples, passed, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_ends():
    assert pass_at_k(20, 0, 10) == 0.0
    assert pass_at_k(20, 20, 10) == 1.0
    assert pass_at_k(20, 11, 10) == 1.0
    assert pass_at_k(20, 7, 1) == pytest.approx(0.35)
    assert pass_at_k(20, 1, 10) == pytest.approx(0.5)


@pytest.mark.parametrize(("samples", "passed", "k"), [(5, 6, 1), (5, -1, 1), (5, 1, 6), (5, 1, 0)])
def test_what_makes_no_sense_is_refused(samples: int, passed: int, k: int):
    with pytest.raises(ValueError, match="no pass@"):
        pass_at_k(samples, passed, k)
