"""What was measured of each method holds together, and the table in the docs is made of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from peft_eval import plugins
from peft_eval.methods.measured import FILE, UNKNOWN, in_short, in_words, measurements

ROOT = Path(__file__).parent.parent.parent


def test_what_was_measured_holds_together() -> None:
    assert measurements() and set(measurements()) <= set(plugins.methods())
    for name, one in measurements().items():
        assert "error" not in one and {"share", "seconds_to_lora", "memory_bytes", "route"} <= one.keys(), name
        assert ("merged_float32" in one) == (one["route"] == "merge"), name
        assert one.get("merged_float32", 0.0) <= 1e-5, name


def test_the_table_in_the_docs_is_that_of_the_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    sys.modules.pop("measure_methods", None)
    from measure_methods import table

    written = table(json.loads(FILE.read_text(encoding="utf-8")))
    assert (ROOT / "docs" / "methods.md").read_text(encoding="utf-8") == written, "python scripts/measure_methods.py"


def test_what_was_not_measured_is_unknown() -> None:
    assert in_short(None) == (UNKNOWN, UNKNOWN)
    assert in_words(None) == [("measured", UNKNOWN)]
    assert in_words({"error": "it has no place"}) == [("measured", "could not be: it has no place")]
