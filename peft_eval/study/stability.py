"""Whether a run was stable, from its losses: a loss that is no number, a jump, losses above the first.

A loss jumps if it and the one after it lie so far above those before that chance does not put them there: by more than
`JUMP` times their spread (the median absolute deviation, as a standard deviation) and by half of their median, both of
the last `WINDOW` logged losses. One loss alone may be that of a hard batch. Losses rose if the median of `WINDOW` in a
row is above `RISE` times the first one, the only loss that nothing was trained for yet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from peft_eval.study.store import CellFolder

WINDOW = 10
JUMP = 6.0
RISE = 1.3
_TO_STANDARD_DEVIATION = 1.4826


@dataclass(frozen=True)
class Stability:
    """What was seen of one run.

    Attributes:
        diverged: it ended with a loss or a weight that is no number.
        jumps: steps at which the loss jumped.
        rose: its losses were well above its first one.
    """

    diverged: bool
    jumps: tuple[int, ...] = ()
    rose: bool = False

    @property
    def stable(self) -> bool:
        """Whether nothing was seen."""
        return not (self.diverged or self.jumps or self.rose)

    @property
    def words(self) -> str:
        """What was seen, empty for a stable run."""
        said = ["diverged"] if self.diverged else []
        if self.jumps:
            said.append(f"loss jumped at step {', '.join(map(str, self.jumps[:3]))}{' ...' if self.jumps[3:] else ''}")
        return "; ".join([*said, *(["losses rose above the first"] if self.rose else [])])


def stability(folder: CellFolder) -> Stability | None:
    """Returns what was seen of a cell, None if it was not trained to an end."""
    from peft_eval.checkpoint.manifest import Manifest

    if folder.state().status == "diverged":
        return Stability(diverged=True)
    if not folder.trained:
        return None
    training = Manifest.read(folder.checkpoint).training
    return stability_of(training.losses) if training else None


def stability_of(losses: Sequence[tuple[int, float]]) -> Stability:
    """Returns what the losses of a whole run tell.

    Args:
        losses: pairs of step and loss.
    """
    if any(not math.isfinite(loss) for _, loss in losses):
        return Stability(diverged=True)
    jumps = tuple(
        step
        for number, (step, loss) in enumerate(losses[:-1])
        if number >= WINDOW
        and _jumps(min(loss, losses[number + 1][1]), [before for _, before in losses[number - WINDOW : number]])
    )
    values = [loss for _, loss in losses]
    windows = (values[start : start + WINDOW] for start in range(len(values) - WINDOW + 1))
    return Stability(False, jumps, rose=any(median(window) > RISE * values[0] for window in windows))


def _jumps(loss: float, before: Sequence[float]) -> bool:
    return loss - median(before) > max(JUMP * _spread(before), 0.5 * median(before))


def _spread(losses: Sequence[float]) -> float:
    return _TO_STANDARD_DEVIATION * median(abs(one - median(losses)) for one in losses)
