"""What is kept off the screen while lm-eval runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from peft_eval.zoo.unheard import unheard


def test_neither_bars_nor_a_childs_complaint_are_seen(capfd: pytest.CaptureFixture[str]) -> None:
    with unheard():
        print("a bar", file=sys.stderr)
        subprocess.run(["sh", "-c", "echo fatal: not a git repository >&2"], check=True)
    print("after", file=sys.stderr)
    subprocess.run(["sh", "-c", "echo of a child >&2"], check=True)
    assert capfd.readouterr().err == "after\nof a child\n"


def test_an_error_is_raised_all_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="wrong"), unheard():
        raise ValueError("wrong")
    subprocess.run(["sh", "-c", "echo of a child >&2"], check=True)
    assert capfd.readouterr().err == "of a child\n"
