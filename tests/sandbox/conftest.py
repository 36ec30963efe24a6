"""A working bubblewrap, or the reason why there is none."""

from __future__ import annotations

import pytest

from peft_eval.errors import SandboxError
from peft_eval.sandbox import choose_backend
from peft_eval.sandbox.backend import Backend


@pytest.fixture(scope="session")
def sandbox() -> Backend:
    """Bubblewrap with numpy."""
    try:
        return choose_backend("bubblewrap", packages=("numpy",))
    except SandboxError as error:
        pytest.skip(f"{error}")
