"""The AUC is the share of pairs in the right order, its error DeLong's; nothing is compared across tasks."""

from __future__ import annotations

import math
import random
from statistics import fmean, stdev

import pytest

from peft_eval.scoring.membership import Measured, loss_gap, membership_auc


def measured(trained: list[float], held_out: list[float], task: str = "task") -> list[Measured]:
    return [Measured(task, True, loss) for loss in trained] + [Measured(task, False, loss) for loss in held_out]


def share_in_order(trained: list[float], held_out: list[float]) -> float:
    return fmean((one < other) + 0.5 * (one == other) for one in trained for other in held_out)


@pytest.mark.parametrize(
    ("trained", "held_out", "area"),
    [
        ([0.1, 0.2], [1.0, 2.0], 1.0),
        ([1.0, 2.0], [0.1, 0.2], 0.0),
        ([1.0, 1.0, 1.0], [1.0, 1.0], 0.5),
        ([0.0, 1.0], [0.0, 1.0, 1.0], (0.5 + 1 + 1 + 0 + 0.5 + 0.5) / 6),
    ],
)
def test_small_cases_by_hand(trained, held_out, area):
    assert membership_auc(measured(trained, held_out)).value == pytest.approx(area)


def test_the_area_is_the_share_of_pairs_and_the_error_is_delongs_by_definition():
    draw = random.Random(0)
    trained = [round(draw.gauss(0, 1), 1) for _ in range(31)]
    held_out = [round(draw.gauss(0.5, 1), 1) for _ in range(17)]  # rounded: with ties
    found = membership_auc(measured(trained, held_out))
    assert found.value == pytest.approx(share_in_order(trained, held_out))
    placements = [share_in_order([one], held_out) for one in trained]
    others = [share_in_order(trained, [other]) for other in held_out]
    expected = math.sqrt(stdev(placements) ** 2 / 31 + stdev(others) ** 2 / 17)
    assert found.standard_error == pytest.approx(expected)


def test_the_standard_error_is_the_spread_over_repetitions():
    draw = random.Random(1)
    areas, errors = [], []
    for _ in range(400):
        trained, held_out = ([draw.gauss(shift, 1) for _ in range(40)] for shift in (0.0, 0.7))
        found = membership_auc(measured(trained, held_out))
        areas.append(found.value)
        errors.append(found.standard_error)
    assert fmean(errors) == pytest.approx(stdev(areas), rel=0.1)


def test_tasks_of_unlike_difficulty_are_not_mixed():
    easy, hard = measured([0.1, 0.1], [0.2, 0.2], "easy"), measured([5.0], [6.0, 6.0, 6.0, 6.0], "hard")
    assert membership_auc([*easy, *hard]).value == 1.0
    upside_down = measured([0.3, 0.3], [0.2, 0.2], "easy")
    assert membership_auc([*upside_down, *hard]).value == pytest.approx(4 / 8)  # 4 pairs each
    gap = loss_gap([*easy, *measured([5.0, 5.0], [6.0, 8.0], "hard")])
    assert gap.value == pytest.approx((0.1 + 2.0) / 2)
    assert gap.standard_error == pytest.approx(math.sqrt(2.0 / 2) / 2)  # only the last losses vary


def test_too_few_to_tell():
    single = membership_auc(measured([0.5], [0.4, 0.6, 0.7]))
    assert single.value == pytest.approx(2 / 3)
    assert single.standard_error == pytest.approx(math.sqrt(2 / 3 * 1 / 3))
    assert loss_gap(measured([0.5], [0.4, 0.6])).standard_error is None
    for estimate in (membership_auc, loss_gap):
        with pytest.raises(ValueError, match="both trained and held-out"):
            estimate([*measured([0.1], [], "a"), *measured([], [0.2], "b")])
