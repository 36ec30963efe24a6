"""The Chromium that tests and the benchmark of reports open pages in, and pages that are watched."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def executable() -> str | None:
    """Returns where Chromium is: what PEFT_EVAL_CHROMIUM says, else on the PATH; None where there is none."""
    return os.environ.get("PEFT_EVAL_CHROMIUM") or shutil.which("chromium")


@contextlib.contextmanager
def watched(browser: Any, file: Path) -> Iterator[Callable[..., Any]]:
    """Opens a page in tabs; at the end, none has logged an error or asked for anything but itself."""
    problems: list[str] = []
    contexts = []

    def open_page(fragment: str = "", **settings: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        contexts.append(context)
        context.route("**/*", lambda route: route.continue_() if is_page(route.request.url) else refuse(route))
        tab = context.new_page()
        tab.set_default_timeout(60_000)
        tab.on("console", lambda message: problems.append(f"console {message.type}: {message.text}"))
        tab.on("pageerror", lambda error: problems.append(f"error: {error}"))
        tab.goto(file.as_uri() + fragment)
        tab.wait_for_selector("html[data-ready=yes]", state="attached")
        return tab

    def is_page(url: str) -> bool:
        return url.partition("#")[0] == file.as_uri()

    def refuse(route: Any) -> None:
        problems.append(f"request: {route.request.url[:200]}")
        route.abort()

    yield open_page
    for context in contexts:
        context.close()
    assert not problems
