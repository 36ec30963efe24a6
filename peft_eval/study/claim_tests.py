"""How each claim of the papers is decided: from a study's outcomes, by paired differences or exact tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from peft_eval.study.outcomes import Answers, Arm, Outcomes, answers, difference, gap, mean
from peft_eval.study.paired import Difference, holm
from peft_eval.study.stability import stability

Verdict = Literal["held", "not held", "not decided"]
ALPHA = 0.05
CLOSE = 0.1  # of what full fine-tuning gains over the base
FULL = "full"
AHEAD = ("lora", "adapter")  # the methods that arXiv 2411.16775 sets against full fine-tuning


@dataclass(frozen=True)
class Result:
    """What a test says: the verdict and its numbers."""

    verdict: Verdict
    numbers: str


def close_to_full(outcomes: Outcomes) -> Result:
    """Decides whether LoRA and adapter, and they alone, lose little of what full fine-tuning gains."""
    suite, metric = _reported(outcomes)
    losses: dict[str, tuple[Difference, float]] = {}
    for arm in _peft_arms(outcomes.best):
        full = _same_place(outcomes.best, arm, FULL)
        sides = full and _sides(outcomes, suite, metric, [arm, full])
        base = outcomes.runs_of_base(arm.folders[0].cell.spec.base, suite)
        if not sides or not base or full is None:
            continue
        of_base = answers(suite, metric, [base, outcomes.runs(full, suite)])
        gain = mean(of_base[1]) - mean(of_base[0]) if of_base else 0.0
        if gain <= 0:
            return undecided(f"full fine-tuning gains nothing over the base ({gain:+.2f})")
        losses[arm.label] = (difference(*sides), gain)
    if not {*AHEAD} <= {*losses}:
        return undecided(f"no scores of {', '.join(sorted({*AHEAD} - {*losses}))} beside full fine-tuning")
    near = {label for label, (lost, gain) in losses.items() if lost.high < CLOSE * gain}
    far = {label for label, (lost, gain) in losses.items() if lost.low > CLOSE * gain}
    numbers = "; ".join(
        f"{label} loses {lost.value / gain:.0%} ({lost.low / gain:.0%} to {lost.high / gain:.0%})"
        for label, (lost, gain) in losses.items()
    )
    others = {*losses} - {*AHEAD}
    if {*AHEAD} <= near and others <= far:
        return Result("held", numbers)
    return Result("not held" if {*AHEAD} & far or others & near else "not decided", numbers)


def largest_is_best(outcomes: Outcomes) -> Result:
    """Decides whether the largest rank of LoRA and size of adapter is the best one."""
    suite, metric = _reported(outcomes)
    said: list[str] = []
    verdicts: list[Verdict] = []
    for label in AHEAD:
        arms = sorted((arm for arm in outcomes.best if arm.label == label), key=_size)
        arms = [arm for arm in arms if outcomes.runs(arm, suite)]
        if len(arms) < 2:
            return undecided(f"{label}: fewer than two sizes have scores")
        leads = [difference(*_known(outcomes, suite, metric, [arm, arms[-1]])) for arm in arms[:-1]]
        corrected = holm([lead.p_value for lead in leads])
        worse = any(lead.value < 0 and p < ALPHA for lead, p in zip(leads, corrected, strict=True))
        better = leads[0].value > 0 and corrected[0] < ALPHA and all(lead.value > 0 for lead in leads)
        verdicts.append("not held" if worse else "held" if better else "not decided")
        said.append(
            f"{label}: {_size(arms[-1])} is ahead of "
            + ", ".join(
                f"{_size(arm)} by {lead.value:+.2f} (p {p:.2g})"
                for arm, lead, p in zip(arms, leads, corrected, strict=False)
            )
        )
    return Result(_all(verdicts), "; ".join(said))


def unstable_at_high_rate_or_size(outcomes: Outcomes) -> Result:
    """Decides whether runs at the highest learning rate or the largest size are unstable more often than others."""
    from scipy import stats

    table = [[0, 0], [0, 0]]  # high or not, unstable or stable
    for label in AHEAD:
        arms = [arm for arm in outcomes.arms if arm.label == label]
        if not arms:
            continue
        rate, size = max(map(_rate, arms)), max(map(_size, arms))
        several = len({_size(arm) for arm in arms}) > 1
        for arm in arms:
            high = _rate(arm) == rate or (several and _size(arm) == size)
            for folder in arm.folders:
                seen = stability(folder)
                if seen is not None:
                    table[0 if high else 1][1 if seen.stable else 0] += 1
    (high_bad, high_good), (low_bad, low_good) = table
    if not high_bad + high_good or not low_bad + low_good:
        return undecided("no runs of both kinds")
    p_value = float(stats.fisher_exact(table, alternative="greater").pvalue)
    numbers = (
        f"{high_bad} of {high_bad + high_good} runs at the highest rate or size were unstable, "
        f"{low_bad} of {low_bad + low_good} others (p {p_value:.2g})"
    )
    if p_value < ALPHA:
        return Result("held", numbers)
    # Not held only where an effect of ten points would have shown: the interval of the shares excludes it.
    high = stats.binomtest(high_bad, high_bad + high_good).proportion_ci(method="wilson")
    return Result("not held" if high.high < low_bad / (low_bad + low_good) + CLOSE else "not decided", numbers)


def needs_more_tasks(outcomes: Outcomes) -> Result:
    """Decides whether LoRA is further behind full fine-tuning with few training tasks than with many."""
    numbers_of_tasks = sorted({arm.coordinates["tasks"] for arm in outcomes.arms if arm.coordinates.get("tasks")})
    if len(numbers_of_tasks) < 2:
        return undecided("fewer than two numbers of tasks have scores")
    few, many = numbers_of_tasks[0], numbers_of_tasks[-1]
    arms = [_arm(outcomes, label, tasks=tasks) for tasks in (many, few) for label in ("lora", FULL)]
    return _wider_gap(outcomes, arms, f"{few} tasks", f"{many} tasks")


def learns_slower(outcomes: Outcomes) -> Result:
    """Decides whether LoRA is further behind full fine-tuning early in training than at its end."""
    suite, metric = _reported(outcomes)
    lora, full = (_arm(outcomes, label) for label in ("lora", FULL))
    if lora is None or full is None:
        return undecided("no scores of lora beside full fine-tuning")
    early = [outcomes.runs_on_the_way(arm, suite) for arm in (lora, full)]
    steps = sorted(set(early[0]) & set(early[1]))
    if not steps:
        return undecided("no checkpoint on the way has scores")
    sides = answers(
        suite,
        metric,
        [outcomes.runs(lora, suite), outcomes.runs(full, suite), early[0][steps[0]], early[1][steps[0]]],
    )
    return _widened(sides, f"step {steps[0]}", "the end")


def memorizes_less(outcomes: Outcomes) -> Result:
    """Decides whether LoRA does worse than full fine-tuning on the very tasks it was trained on."""
    suite = "memorization_seen_task"
    metric = _metric(outcomes, suite)
    arms = [
        max((arm for arm in outcomes.best if arm.label == label), key=_tasks, default=None) for label in ("lora", FULL)
    ]
    sides = _sides(outcomes, suite, metric, arms)
    if not sides:
        return undecided(f"no scores of lora and full fine-tuning in {suite}")
    lead = difference(*sides)
    numbers = (
        f"full fine-tuning is ahead by {lead.value:+.2f} ({lead.low:+.2f} to {lead.high:+.2f}, p {lead.p_value:.2g})"
    )
    return Result(_signed(lead), numbers)


def behind_in_long_answers(outcomes: Outcomes) -> Result:
    """Decides whether LoRA is behind full fine-tuning, and ahead of adapter, in reasoning, code and long answers."""
    verdicts: list[Verdict] = []
    said: list[str] = []
    leads: list[tuple[str, Difference]] = []
    for suite in outcomes.study.file.evaluate.suites:
        metric = _metric(outcomes, suite)
        for lower, upper in (("lora", FULL), ("adapter", "lora")):
            arms = [_arm(outcomes, label) for label in (lower, upper)]
            sides = _sides(outcomes, suite, metric, arms)
            if sides:
                leads.append((f"{suite}: {upper} over {lower}", difference(*sides)))
    if not leads:
        return undecided("no scores")
    for (words, lead), p in zip(leads, holm([lead.p_value for _, lead in leads]), strict=True):
        verdicts.append("not decided" if p >= ALPHA else "held" if lead.value > 0 else "not held")
        said.append(f"{words} by {lead.value:+.3g} (p {p:.2g})")
    return Result(_all(verdicts), "; ".join(said))


def struggle_when_tuning_is_scarce(outcomes: Outcomes) -> Result:
    """Decides whether methods ahead of LoRA at their best rate lose that lead at a rate that was not looked for.

    What a method scores without a search is its mean over the grid's rates, each as likely to be taken.
    """
    suite, metric = _deciding(outcomes)
    tuned, untuned = {}, {}
    for label in dict.fromkeys(arm.label for arm in outcomes.arms):
        arms = [arm for arm in outcomes.arms if arm.label == label]
        runs = [outcomes.runs(arm, suite)[:1] for arm in arms]
        if len(runs) > 1 and all(runs):
            best = next((arm for arm in arms if arm in outcomes.best), None)
            if best is not None:
                tuned[label], untuned[label] = outcomes.runs(best, suite)[:1], [run for one in runs for run in one]
    if "lora" not in tuned:
        return undecided("lora has no scores at several learning rates")
    lost: list[tuple[str, Difference]] = []
    for label in tuned:
        if label in ("lora", FULL):
            continue
        sides = answers(suite, metric, [tuned["lora"], tuned[label], untuned["lora"], untuned[label]])
        if sides is None:
            continue
        at_best = difference(sides[0], sides[1])
        if at_best.value <= 0 or at_best.p_value >= ALPHA:
            continue
        means = [Answers(side.scores.mean(axis=0, keepdims=True), side.tasks, side.macro) for side in sides]
        lost.append((label, difference(gap(means[2], means[3]), gap(means[0], means[1]))))
    if not lost:
        return undecided("no method is ahead of lora at its best learning rate")
    corrected = holm([one.p_value for _, one in lost])
    numbers = "; ".join(
        f"{label} loses {one.value:+.2f} of its lead without a search (p {p:.2g})"
        for (label, one), p in zip(lost, corrected, strict=True)
    )
    losing = [one.value > 0 and p < ALPHA for (_, one), p in zip(lost, corrected, strict=True)]
    gaining = [one.value < 0 and p < ALPHA for (_, one), p in zip(lost, corrected, strict=True)]
    return Result("held" if all(losing) else "not held" if any(gaining) else "not decided", numbers)


def undecided(reason: str) -> Result:
    """Returns a result that says why the data does not tell."""
    return Result("not decided", reason)


def _all(verdicts: Sequence[Verdict]) -> Verdict:
    """Returns the verdict on a claim that says several things at once."""
    if "not held" in verdicts:
        return "not held"
    return "held" if all(verdict == "held" for verdict in verdicts) else "not decided"


def _signed(lead: Difference) -> Verdict:
    return "not decided" if lead.p_value >= ALPHA else "held" if lead.value > 0 else "not held"


def _wider_gap(outcomes: Outcomes, arms: Sequence[Arm | None], early: str, late: str) -> Result:
    """Decides on arms of LoRA and full fine-tuning late, then early."""
    suite, metric = _reported(outcomes)
    return _widened(_sides(outcomes, suite, metric, arms), early, late)


def _widened(sides: tuple[Answers, ...] | None, early: str, late: str) -> Result:
    """Decides whether the second side's lead over the first is smaller than the fourth's over the third."""
    if not sides:
        return undecided("no scores of lora and full fine-tuning at both ends")
    leads = [gap(sides[0], sides[1]), gap(sides[2], sides[3])]
    change = difference(*leads)
    numbers = (
        f"full fine-tuning is ahead by {mean(leads[1]):+.2f} at {early} and {mean(leads[0]):+.2f} at {late}: "
        f"{change.value:+.2f} ({change.low:+.2f} to {change.high:+.2f}, p {change.p_value:.2g})"
    )
    return Result(_signed(change), numbers)


def _arm(outcomes: Outcomes, label: str, **coordinates: Any) -> Arm | None:
    """Returns the first chosen arm of a label with these values on axes."""
    found = (arm for arm in outcomes.best if arm.label == label)
    return next((arm for arm in found if coordinates.items() <= arm.coordinates.items()), None)


def _peft_arms(arms: Iterable[Arm]) -> list[Arm]:
    return [arm for arm in arms if arm.label != FULL]


def _same_place(arms: Iterable[Arm], like: Arm, label: str) -> Arm | None:
    base = like.folders[0].cell.spec.base
    return next((arm for arm in arms if arm.label == label and arm.folders[0].cell.spec.base == base), None)


def _sides(outcomes: Outcomes, suite: str, metric: str, arms: Sequence[Arm | None]) -> tuple[Answers, ...] | None:
    return answers(suite, metric, [outcomes.runs(arm, suite) if arm else [] for arm in arms])


def _known(outcomes: Outcomes, suite: str, metric: str, arms: Sequence[Arm]) -> tuple[Answers, ...]:
    found = _sides(outcomes, suite, metric, arms)
    assert found is not None  # both have runs of the suite
    return found


def _reported(outcomes: Outcomes) -> tuple[str, str]:
    """Returns the suite that the study reports first, and its first metric."""
    suite = outcomes.study.file.evaluate.suites[0]
    return suite, _metric(outcomes, suite)


def _deciding(outcomes: Outcomes) -> tuple[str, str]:
    """Returns the suite that all runs of the grid were asked: the rule's, else the first reported."""
    rule = outcomes.study.file.choose
    return (rule.by, _metric(outcomes, rule.by)) if rule else _reported(outcomes)


def _metric(outcomes: Outcomes, suite: str) -> str:
    """Returns the metric that a suite's table has first."""
    from peft_eval.harness.score_table import score_columns

    for runs in outcomes.study.evaluations.runs().values():
        for run in runs:
            for name, metric in score_columns([dict(run.table)], [suite]) if run.tasks_of(suite) else ():
                if name == suite:
                    return metric
    return ""


def _rate(arm: Arm) -> float:
    return float(arm.folders[0].cell.spec.learning_rate or 0.0)


def _size(arm: Arm) -> Any:
    options = arm.folders[0].cell.spec.options
    return next((options[key] for key in ("rank", "size", "length", "num_virtual_tokens") if key in options), 0)


def _tasks(arm: Arm) -> int:
    return arm.coordinates.get("tasks") or 0
