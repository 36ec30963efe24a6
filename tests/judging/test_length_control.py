"""The length-controlled win rate on made difficulties: it takes the length's part away, and only that."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from peft_eval.errors import DataError
from peft_eval.judging.length_control import Judged, check_difficulties, length_controlled_win_rate

pytest.importorskip("alpaca_eval", reason="the extra alpaca is not installed")
COUNT = 300


@pytest.fixture
def difficulties(tmp_path: Path) -> Path:
    draw = random.Random(1)
    path = tmp_path / "df_gamed.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline", "model"]
        )
        for model, length in (("concise", 1.0), ("verbose", -1.0)):
            for index in range(COUNT):
                row = [0.5, index, length + draw.gauss(0, 0.3), draw.gauss(0, 1), False, model]
                writer.writerow(row)
    return path


def judged(prefers_long: bool, answer_length: int) -> list[Judged]:
    draw = random.Random(2)
    items = []
    for index in range(COUNT):
        length = max(1, int(draw.gauss(answer_length, 150)))
        wins = length > 400 if prefers_long else draw.random() < 0.7
        items.append(Judged(index, 400, length, float(wins)))
    return items


def test_a_judge_that_counts_characters_is_brought_back(difficulties: Path) -> None:
    items = judged(prefers_long=True, answer_length=500)
    raw = 100 * sum(item.preference for item in items) / COUNT
    rate, error = length_controlled_win_rate(items, difficulties)
    assert raw > 70
    assert abs(rate - 50) < abs(raw - 50)
    assert 0 <= error < 5


def test_a_judge_that_does_not_is_left_alone(difficulties: Path) -> None:
    items = judged(prefers_long=False, answer_length=400)
    raw = 100 * sum(item.preference for item in items) / COUNT
    rate, _ = length_controlled_win_rate(items, difficulties)
    assert rate == pytest.approx(raw, abs=6)


def test_a_file_that_does_not_fit_is_refused(difficulties: Path, tmp_path: Path) -> None:
    check_difficulties(difficulties, COUNT)
    with pytest.raises(DataError, match=f"no difficulty for 505 of {COUNT + 505}"):
        check_difficulties(difficulties, COUNT + 505)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column index"):
        check_difficulties(tmp_path / "other.csv", 1)
