"""What counts as unstable: losses that are no numbers, jump, or end above their start; noise does not."""

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


@pytest.mark.parametrize("step", [20, 60, 99])
def test_a_jump_is_found_at_its_step(step):
    losses = falling()
    losses[step] = (step + 1, losses[step][1] + 4)
    seen = stability_of(losses)
    assert not seen.stable and step + 1 in seen.jumps and f"step {step + 1}" in seen.words


def test_a_loss_that_is_no_number():
    assert stability_of([*falling(), (101, math.nan)]).diverged
    assert stability_of([(1, 2.0), (2, math.inf)]).words == "diverged"


def test_an_end_above_the_start():
    seen = stability_of([(step, 2 + step / 50) for step in range(1, 101)])
    assert seen.above_start and not seen.stable and "ended above its start" in seen.words


def test_few_losses_say_little():
    assert stability_of([(1, 2.0)]).stable and stability_of([(1, 2.0), (2, 2.5)]).stable
