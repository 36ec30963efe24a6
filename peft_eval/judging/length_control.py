"""AlpacaEval's length-controlled win rate: what it would be if both answers were equally long.

A logistic regression on the answers' difference in length and each instruction's difficulty (Dubois et al. 2024,
arXiv 2404.04475), by alpaca-eval's own code. It needs the file of difficulties, which exists for the 805 official
instructions alone.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_eval.errors import DataError

DIFFICULTY_FILE = "df_gamed.csv"
_COLUMNS = {"index", "instruction_difficulty", "preference", "std_delta_len", "not_gamed_baseline"}


@dataclass(frozen=True, slots=True)
class Judged:
    """One judged comparison.

    Attributes:
        index: position of the instruction in the official order.
        reference_length: length of the reference, in characters.
        answer_length: length of the answer, in characters.
        preference: 0 (reference) to 1 (answer).
    """

    index: int
    reference_length: int
    answer_length: int
    preference: float


def check_difficulties(file: Path, instructions: int) -> None:
    """Makes sure that a file of difficulties covers all instructions.

    Raises:
        DataError: it cannot be read, lacks a column or instructions.
    """
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines)
            lacking = sorted(_COLUMNS - set(rows.fieldnames or ()))
            if lacking:
                raise DataError(
                    f"no column {', '.join(lacking)}", place=str(file), remedy="fetch it again, or remove it"
                )
            known = {int(float(row["index"])) for row in rows}
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {error}", place=str(file), remedy="fetch it again, or remove it") from error
    if missing := set(range(instructions)) - known:
        raise DataError(
            f"no difficulty for {len(missing)} of {instructions} instructions",
            place=str(file),
            remedy="use it with the official instructions alone, or remove it",
        )


def length_controlled_win_rate(judged: Sequence[Judged], difficulties: Path) -> tuple[float, float]:
    """Returns the length-controlled win rate and its standard error, 0 to 100.

    Args:
        judged: all comparisons that have a verdict.
        difficulties: `df_gamed.csv` of the official data.
    """
    import pandas as pd
    import sklearn
    from alpaca_eval.metrics import glm_winrate

    frame = pd.DataFrame(
        {
            "preference": [item.preference + 1 for item in judged],
            "output_1": ["x" * item.reference_length for item in judged],
            "output_2": ["x" * item.answer_length for item in judged],
            "generator_1": "reference",
            "generator_2": "evaluated",
            "annotator": "judge",
        },
        index=[item.index for item in judged],
    )
    download = glm_winrate.hf_hub_download

    def local_file(**_: Any) -> str:
        return str(difficulties)

    # The library has no other way to take the file from disk; it also switches sklearn's metadata routing on for good.
    glm_winrate.hf_hub_download = local_file
    try:
        with sklearn.config_context(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of options that scikit-learn 1.10 drops
            metrics = glm_winrate.get_length_controlled_winrate(
                frame, save_weights_dir=None, is_warn_extreme_changes=False
            )
    finally:
        glm_winrate.hf_hub_download = download
    return float(metrics["length_controlled_winrate"]), float(metrics["lc_standard_error"])
