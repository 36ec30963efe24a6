"""The words to repeat."""

from __future__ import annotations

from typing import Any


def documents(**_: Any) -> dict[str, Any]:
    """Returns the documents of the split `test`."""
    import datasets

    return {"test": datasets.Dataset.from_dict({"word": ["one", "two", "three"]})}
