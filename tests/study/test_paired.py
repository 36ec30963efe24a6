"""Intervals and tests against scipy, and against simulated runs whose true difference is known."""

import numpy as np
import pytest
from scipy import stats

from peft_eval.study import paired
from peft_eval.study.paired import compare, holm


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_one_run_a_side_is_scipys_paired_bootstrap(rng):
    first, second = rng.random(300), rng.random(300) + 0.05
    found = compare(first[None], second[None], ["t"] * 300)
    ours = np.array([found.low, found.high])
    theirs = stats.bootstrap(
        (second - first,), np.mean, n_resamples=10_000, method="percentile", random_state=rng
    ).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=3e-3)
    assert found.value == pytest.approx((second - first).mean())
    permuted = stats.permutation_test(
        (second, first), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=10_000, random_state=rng
    )
    assert found.test == "permutation"
    assert found.p_value == pytest.approx(permuted.pvalue, abs=0.02)


def test_right_or_wrong_is_mcnemars_exact_test():
    first = np.array([1.0] * 40 + [0.0] * 12 + [1.0] * 3 + [0.0] * 45)
    second = np.array([1.0] * 40 + [1.0] * 12 + [0.0] * 3 + [0.0] * 45)
    found = compare(first[None], second[None], ["t"] * 100)
    assert found.test == "mcnemar"
    # Twice the tail of a fair coin: 3 or fewer of 15 discordant questions.
    assert found.p_value == pytest.approx(2 * stats.binom.cdf(3, 15, 0.5))
    assert (found.first, found.second, found.value) == pytest.approx((0.43, 0.52, 0.09))


def test_equal_scores_differ_by_nothing():
    scores = np.linspace(0, 1, 30)[None]
    found = compare(scores, scores, ["t"] * 30)
    assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_a_macro_mean_counts_tasks_not_questions():
    first, second = np.zeros((1, 110)), np.r_[np.ones(10), np.zeros(100)][None]
    tasks = ["small"] * 10 + ["large"] * 100
    assert compare(first, second, tasks, macro=True).second == pytest.approx(0.5)
    assert compare(first, second, tasks).second == pytest.approx(10 / 110)
    # Questions are drawn anew within their task, where all have the same score here: nothing varies.
    assert compare(first, second, tasks, macro=True).low == pytest.approx(0.5)


@pytest.mark.parametrize("tasks", [1, 4])
def test_without_a_difference_one_run_in_twenty_is_called_one(rng, monkeypatch, tasks):
    monkeypatch.setattr(paired, "RESAMPLES", 600)
    labels = np.arange(120) % tasks
    false = outside = 0
    for _ in range(400):
        hard = rng.normal(size=120)  # each question's own difficulty, which pairing takes out
        first, second = (hard + rng.normal(scale=0.5, size=120) for _ in range(2))
        found = compare(first[None], second[None], labels)
        false += found.p_value < 0.05
        outside += not found.low <= 0 <= found.high
    low, high = stats.binom.interval(0.999, 400, 0.05)
    assert low <= false <= high
    assert low <= outside <= high + 8  # the percentile bootstrap of 120 questions is a little narrow


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_with_seeds_chance_between_training_runs_is_no_difference(rng, spread):
    """Three seeds a side that spread by as much as the questions: naive pooling would call most of these decisive."""
    false = 0
    for _ in range(1500):
        hard = rng.normal(size=100)
        sides = [hard + rng.normal(scale=0.5, size=(3, 100)) + rng.normal(scale=spread, size=(3, 1)) for _ in range(2)]
        found = compare(*sides, ["t"] * 100)
        false += found.p_value < 0.05
        assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)
    assert false <= stats.binom.ppf(0.9999, 1500, 0.06)
    if spread:
        assert false >= stats.binom.ppf(0.0001, 1500, 0.02)


def test_with_seeds_a_real_difference_is_found(rng):
    hard = rng.normal(size=400)
    first = hard + rng.normal(scale=0.5, size=(3, 400))
    second = first + 0.4 + rng.normal(scale=0.02, size=(3, 1))
    found = compare(first, second, ["t"] * 400)
    assert found.test == "welch" and found.seeds == (3, 3)
    assert found.p_value < 0.01
    assert found.low < 0.4 < found.high


def test_holm_by_hand():
    # Sorted .01 .02 .03 .2: times 4, 3, 2, 1, never below the one before.
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="questions"):
        compare(np.zeros((1, 3)), np.zeros((1, 4)), ["t"] * 3)
    with pytest.raises(ValueError, match="questions"):
        compare(np.zeros((1, 0)), np.zeros((1, 0)), [])
