"""Whether a run was stable, from its losses: a loss that is no number, a jump, an end above the start.

A loss jumps if it lies so far above the losses before it that chance does not put it there: by more than
`JUMP` times their spread (the median absolute deviation, as a standard deviation) and by half of their median. The
spread and median are those of the last `WINDOW` logged losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from peft_eval.study.store import CellFolder

WINDOW = 10
JUMP = 6.0
_TO_STANDARD_DEVIATION = 1.4826


@dataclass(frozen=True)
class Stability:
    """What was seen of one run.

    Attributes:
        diverged: it ended with a loss or a weight that is no number.
        jumps: steps at which the loss jumped.
        above_start: its last losses are above its first.
    """

    diverged: bool
    jumps: tuple[int, ...] = ()
    above_start: bool = False

    @property
    def stable(self) -> bool:
        """Whether nothing was seen."""
        return not (self.diverged or self.jumps or self.above_start)

    @property
    def words(self) -> str:
        """What was seen, empty for a stable run."""
        said = ["diverged"] if self.diverged else []
        if self.jumps:
            said.append(f"loss jumped at step {', '.join(map(str, self.jumps[:3]))}{' ...' if self.jumps[3:] else ''}")
        return "; ".join([*said, *(["ended above its start"] if self.above_start else [])])


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
        for number, (step, loss) in enumerate(losses)
        if number >= WINDOW and _jumps(loss, [before for _, before in losses[number - WINDOW : number]])
    )
    size = max(1, min(WINDOW, len(losses) // 4))
    first, last = ([loss for _, loss in part] for part in (losses[:size], losses[-size:]))
    return Stability(False, jumps, above_start=len(losses) >= 4 and median(last) > median(first))


def _jumps(loss: float, before: Sequence[float]) -> bool:
    middle = median(before)
    spread = _TO_STANDARD_DEVIATION * median(abs(one - middle) for one in before)
    return loss - middle > max(JUMP * spread, 0.5 * middle)
