"""Which method to take within a budget: of the arms that fit, the best, and those that are not decidedly worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean as mean_of

from peft_eval.errors import ConfigError
from peft_eval.study.outcomes import Arm, Outcomes, answers, difference, mean
from peft_eval.study.paired import holm

ALPHA = 0.05


@dataclass(frozen=True)
class Budget:
    """What a training run may take; None is no limit.

    Attributes:
        memory_bytes: the most that its process holds.
        seconds: of training.
        checkpoint_bytes: of the checkpoint's weights on disk.
        trainable_parameters: how many weights are trained.
    """

    memory_bytes: float | None = None
    seconds: float | None = None
    checkpoint_bytes: float | None = None
    trainable_parameters: float | None = None


@dataclass(frozen=True)
class Offer:
    """An arm, what it takes and what it scores.

    Attributes:
        arm: the arm.
        takes: what it takes, in the budget's units.
        score: mean over its runs.
        fits: whether it is within the budget.
        corrected: p-value of its difference to the best that fits (Holm); None for the best and for what does not fit.
        verdict: `best`, `not decidedly worse`, `worse` or `over budget`.
    """

    arm: Arm
    takes: Budget
    score: float
    fits: bool
    corrected: float | None
    verdict: str


def offers(
    outcomes: Outcomes, budget: Budget, suite: str, metric: str, *, higher_is_better: bool = True
) -> list[Offer]:
    """Returns every arm with scores, the best that fits first.

    Args:
        outcomes: a study's.
        budget: the limits.
        suite: lm-eval task or group that decides.
        metric: lm-eval's metric and filter.
        higher_is_better: which way is better.

    Raises:
        ConfigError: no arm has scores, or none fits.
    """
    scored = [arm for arm in outcomes.best if outcomes.runs(arm, suite) and arm.manifests]
    if not scored:
        raise ConfigError(
            f"no checkpoint has scores in {suite}", place="study", remedy="`peft-eval study run` it first"
        )
    sign = 1 if higher_is_better else -1
    scores = {id(arm): _score(outcomes, arm, suite, metric) for arm in scored}
    ranked = sorted(scored, key=lambda arm: -sign * scores[id(arm)])
    fitting = [arm for arm in ranked if _fits(takes(arm), budget)]
    if not fitting:
        least = min(ranked, key=lambda arm: takes(arm).memory_bytes or 0)
        needed = (takes(least).memory_bytes or 0) / 1e9
        raise ConfigError(
            f"no method fits; the smallest by memory is {least.name} with {needed:.2f} GB",
            place="budget",
        )
    p_values = [_p_value(outcomes, fitting[0], arm, suite, metric) for arm in fitting[1:]]
    corrected = dict(zip(map(id, fitting[1:]), holm(p_values), strict=True))
    found = []
    for arm in [*fitting, *(arm for arm in ranked if arm not in fitting)]:
        fits, p = arm in fitting, corrected.get(id(arm))
        verdict = (
            "over budget" if not fits else "best" if p is None else "worse" if p < ALPHA else "not decidedly worse"
        )
        found.append(Offer(arm, takes(arm), scores[id(arm)], fits, p, verdict))
    return found


def takes(arm: Arm) -> Budget:
    """Returns what an arm's runs took, the mean over its seeds."""
    runs = [manifest.training for manifest in arm.manifests if manifest.training]
    weights = [
        sum(record.bytes for name, record in manifest.files.items() if name.endswith(".safetensors"))
        for manifest in arm.manifests
    ]
    return Budget(
        memory_bytes=mean_of(run.peak_memory_bytes for run in runs),
        seconds=mean_of(run.seconds for run in runs),
        checkpoint_bytes=mean_of(weights),
        trainable_parameters=mean_of(manifest.method.trainable_parameters or 0 for manifest in arm.manifests),
    )


def _fits(taken: Budget, budget: Budget) -> bool:
    pairs: Sequence[tuple[float | None, float | None]] = [
        (taken.memory_bytes, budget.memory_bytes),
        (taken.seconds, budget.seconds),
        (taken.checkpoint_bytes, budget.checkpoint_bytes),
        (taken.trainable_parameters, budget.trainable_parameters),
    ]
    return all(limit is None or (value is not None and value <= limit) for value, limit in pairs)


def _score(outcomes: Outcomes, arm: Arm, suite: str, metric: str) -> float:
    side = answers(suite, metric, [outcomes.runs(arm, suite)])
    if side is None:
        raise ConfigError(f"{suite} has no {metric} that is a mean over questions", place="--metric")
    return mean(side[0])


def _p_value(outcomes: Outcomes, best: Arm, other: Arm, suite: str, metric: str) -> float:
    sides = answers(suite, metric, [outcomes.runs(best, suite), outcomes.runs(other, suite)])
    return difference(*sides).p_value if sides else 1.0
