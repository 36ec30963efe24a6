"""What counts as unstable: losses that are no numbers, jump, or rise above the first; noise does not."""

import math
import random

import pytest

from peft_eval.study.stability import stability_of


def falling(noise=0.05, steps=100, seed=0):
    rng = random.Random(seed)
    return [(step, 3 * math.exp(-step / 50) + 0.5 + rng.gauss(0, noise)) for step in range(1, steps + 1)]


@pytest.mark.parametrize("seed", range(40))
def test_noise_is_stable(seed):
    assert stability_of(falling(seed=seed)).stable


def test_one_hard_batch_is_stable():
    losses = falling()
    losses[60] = (61, losses[60][1] + 4)
    assert stability_of(losses).stable


def test_a_run_that_learns_nothing_is_stable():
    rng = random.Random(0)
    assert stability_of([(step, 2 + rng.gauss(0, 0.4)) for step in range(1, 101)]).stable


@pytest.mark.parametrize("step", [20, 60, 98])
def test_a_jump_is_found_at_its_step(step):
    losses = falling()
    for place in (step, step + 1):
        losses[place] = (place + 1, losses[place][1] + 4)
    seen = stability_of(losses)
    assert not seen.stable and step + 1 in seen.jumps and f"step {step + 1}" in seen.words


def test_a_loss_that_is_no_number():
    assert stability_of([*falling(), (101, math.nan)]).diverged
    assert stability_of([(1, 2.0), (2, math.inf)]).words == "diverged"


def test_losses_that_rise_and_stay_there():
    seen = stability_of([(1, 2.0), *((step, 4 - step / 100) for step in range(2, 101))])
    assert seen.rose and not seen.stable and seen.words == "losses rose above the first"


def test_few_losses_say_little():
    assert stability_of([(1, 2.0)]).stable and stability_of([(1, 2.0), (2, 2.5)]).stable
