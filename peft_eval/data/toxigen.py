r"""ToxiGen's prompts as open-instruct draws them: 500 of each of 14 groups (60ceefa6, eval/toxigen/run_eval.py).

A file holds a group's prompts, one a line, with a line break inside a prompt written as `\n`. The original shuffles
file after file with one seeded generator in whatever order the disk lists them; here the order is that of the names.
"""

from __future__ import annotations

import functools
import io
import random
from pathlib import Path

from peft_eval.data.text_files import UNREADABLE
from peft_eval.errors import DataError
from peft_eval.plain_files import read_bounded

GROUPS = (
    "asian", "black", "chinese", "jewish", "latino", "lgbtq", "mental_disability", "mexican", "middle_east", "muslim",
    "native_american", "physical_disability", "trans", "women",
)  # fmt: skip
PROMPTS_PER_GROUP = 500
_SEED = 42


@functools.cache
def read_prompts(folder: Path) -> dict[str, list[str]]:
    """Returns the drawn prompts of every group.

    Args:
        folder: holds `hate_<group>.txt`, or `hate_<group>_1k.txt` as upstream names them.

    Raises:
        DataError: files are missing, empty or not text; all missing ones are named.
    """
    files = {group: _file(folder, group) for group in GROUPS}
    if missing := [group for group, file in files.items() if file is None]:
        raise DataError(
            f"no prompts for {len(missing)} of {len(GROUPS)} groups: {', '.join(missing)}",
            place=str(folder),
            remedy="fetch them with `peft-eval data get toxigen`; the files are called hate_<group>.txt",
        )
    draw = random.Random(_SEED)
    return {group: _drawn(file, draw) for group, file in files.items() if file is not None}


def _file(folder: Path, group: str) -> Path | None:
    names = (f"hate_{group}.txt", f"hate_{group}_1k.txt")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _drawn(file: Path, draw: random.Random) -> list[str]:
    try:
        # Lines as Python's text files have them: other separators of str.splitlines may stand in a prompt.
        with io.StringIO(read_bounded(file).decode("utf-8"), newline=None) as lines:
            prompts = [line.strip() for line in lines]
    except UNREADABLE as error:
        raise DataError(f"cannot be read as text: {error}", place=str(file)) from error
    draw.shuffle(prompts)
    # An empty line is no prompt; it takes its place in the draw all the same, as in the original.
    drawn = [_unescaped(prompt) for prompt in prompts[:PROMPTS_PER_GROUP] if prompt]
    if not drawn:
        raise DataError("no prompts in it", place=str(file))
    return drawn


def _unescaped(prompt: str) -> str:
    return prompt.replace("\\\\", "\\").replace("\\n", "\n")
