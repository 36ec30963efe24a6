"""Intervals of a mean, against scipy and against data of which the truth is known."""

import numpy as np
import pytest
from scipy import stats

from peft_eval.report.interval import Interval, of_questions, of_seeds


def test_one_seed_and_one_task_is_students_interval():
    scores = np.random.default_rng(0).normal(50, 10, 40)
    expected = stats.t.interval(0.95, 39, loc=scores.mean(), scale=stats.sem(scores))
    assert of_questions(scores[None], ["a"] * 40, macro=False) == pytest.approx(expected)


def test_seeds_of_a_number_that_is_no_mean_over_questions():
    values = [61.0, 64.0, 60.5]
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert of_seeds(values) == pytest.approx(expected)
    assert of_seeds(values[:1]) is None


@pytest.mark.parametrize("macro", [False, True])
@pytest.mark.parametrize("seeds", [1, 4])
def test_the_interval_holds_the_truth_as_often_as_it_says(macro, seeds):
    """Tasks of other difficulty and number of questions; questions and seeds both drawn anew."""
    rng = np.random.default_rng(1)
    sizes, levels = (20, 60), (40.0, 70.0)
    tasks = [task for task, size in enumerate(sizes) for _ in range(size)]
    truth = np.mean(levels) if macro else np.average(levels, weights=sizes)
    hits, rounds = 0, 600
    for _ in range(rounds):
        hard = np.concatenate([rng.normal(level, 15, size) for level, size in zip(levels, sizes, strict=True)])
        shift = rng.normal(0, 3 if seeds > 1 else 0, (seeds, 1))
        low, high = of_questions(hard + shift + rng.normal(0, 5, (seeds, len(hard))), tasks, macro=macro)
        hits += low <= truth <= high
    assert 0.92 < hits / rounds < 0.98


def test_equal_scores_have_no_width_and_a_single_question_no_interval():
    assert of_questions(np.ones((2, 5)), ["a"] * 5, macro=False) == Interval(1, 1)
    assert of_questions(np.ones((1, 2)), ["a", "b"], macro=True) is None
