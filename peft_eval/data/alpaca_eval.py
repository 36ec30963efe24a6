"""AlpacaEval's 805 instructions with the answers to beat (tatsu-lab/alpaca_eval; evaluation set CC-BY-NC-4.0).

The default reference is what text-davinci-003 answered with at most 300 tokens: `alpaca_eval.json` of the data set on
the hub. The repository's annotations hold the same as `output_1`, beside every instruction; its
`results/text_davinci_003/model_outputs.json` holds other answers, of which 20 in 805 are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_eval.errors import DataError, raise_all
from peft_eval.plain_files import MOST_DATA_BYTES, read_bounded, strict_json

REFERENCE_FILE = "alpaca_eval.json"
ANNOTATIONS = "results/*/alpaca_eval_gpt4/annotations.json"


@dataclass(frozen=True, slots=True)
class Reference:
    """An instruction and the answer to beat.

    Attributes:
        instruction: the question, verbatim.
        output: the reference's answer, verbatim.
        dataset: where the instruction comes from.
    """

    instruction: str
    output: str
    dataset: str


def read_references(folder: Path) -> list[Reference]:
    """Reads the default references of a folder, in the official order.

    Raises:
        DataError: the file cannot be read or lacks a column.
    """
    file = folder / REFERENCE_FILE
    if file.is_file():
        return read_reference_file(file)
    annotations = sorted(folder.glob(ANNOTATIONS))
    if not annotations:
        raise DataError(f"neither {REFERENCE_FILE} nor {ANNOTATIONS}", place=str(folder))
    return read_reference_file(annotations[0], output="output_1")


def read_reference_file(file: Path, output: str = "output") -> list[Reference]:
    """Reads a list of records with `instruction` and an answer.

    Args:
        file: JSON, in the order to evaluate in.
        output: the answer's column.

    Raises:
        DataError: it is not readable, lacks a column, is empty or has an instruction twice.
        ManyErrors: several rows are wrong.
    """
    try:
        rows = strict_json(read_bounded(file.expanduser(), MOST_DATA_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot be read as JSON: {error}", place=str(file)) from error
    if not isinstance(rows, list) or not rows:
        raise DataError("not a list of instructions with answers", place=str(file))
    raise_all(_wrong(row, number, output, file) for number, row in enumerate(rows) if not _is_right(row, output))
    instructions = [row["instruction"] for row in rows]
    if len(set(instructions)) < len(instructions):
        twice = next(text for number, text in enumerate(instructions) if text in instructions[:number])
        raise DataError(f"an instruction comes twice: {twice[:60]!r}", place=str(file))
    return [Reference(row["instruction"], row[output], str(row.get("dataset", "unknown"))) for row in rows]


def _is_right(row: Any, output: str) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(column), str) for column in ("instruction", output))


def _wrong(row: Any, number: int, output: str, file: Path) -> DataError:
    columns = sorted(row) if isinstance(row, dict) else []
    return DataError(
        f"row {number} has no text under `instruction` and `{output}`", place=str(file), remedy=f"it has {columns}"
    )
