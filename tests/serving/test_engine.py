"""How a machine's cores are dealt out to the ranks of an engine."""

import pytest

from peft_eval.serving.engine import core_shares


@pytest.mark.parametrize(
    ("cores", "ranks", "shares"),
    [
        ([0, 1], 2, "0|1"),
        ([0, 1, 2, 3, 4], 2, "0,1|2,3"),
        ([4, 5, 6, 7], 4, "4|5|6|7"),
        ([0, 1], 4, "0|1|0|1"),
        ([3], 2, "3|3"),
    ],
)
def test_cores_of_each_rank(cores, ranks, shares):
    assert core_shares(cores, ranks) == shares
