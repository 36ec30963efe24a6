"""Finds a way to run programs in isolation, and proves that it works before anything depends on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from peft_eval.errors import SandboxError, unknown_name
from peft_eval.sandbox.backend import Backend
from peft_eval.sandbox.bare import Bare
from peft_eval.sandbox.bubblewrap import INSTALL, Bubblewrap
from peft_eval.sandbox.containers import DEFAULT_IMAGE, ENGINES, Container
from peft_eval.sandbox.exchange import run_program
from peft_eval.sandbox.interpreter import inspect_interpreter
from peft_eval.sandbox.program import Limits

NAMES = ("auto", "bubblewrap", *ENGINES, "none")
_PROBE = "import json, math, typing\nassert math.sqrt(4) == 2"
_NO_NAMESPACES = (
    "bwrap is installed but may not make namespaces here: in a container, start it with `--privileged` or with "
    "`--cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined`; on a host, allow "
    "users namespaces with `sysctl -w kernel.unprivileged_userns_clone=1` (Debian), "
    "`kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu) or `user.max_user_namespaces=10000`"
)
_NAMESPACE_WORDS = ("namespace", "not permitted", "no permissions", "uid map", "loopback", "mount")


def choose_backend(
    name: str = "auto",
    *,
    unsafe_code: bool = False,
    packages: Iterable[str] = (),
    python: str | None = None,
    image: str = DEFAULT_IMAGE,
) -> Backend:
    """Returns the backend of that name, or the first that works: bubblewrap, Podman, Docker.

    Args:
        name: one of `NAMES`.
        unsafe_code: permits `none`, and with `auto` falls back to it.
        packages: packages that programs may import, where they are installed here (bubblewrap, none).
        python: the Python that runs the programs in bubblewrap; by default this one.
        image: what containers are made of.

    Raises:
        ConfigError: the name is none of `NAMES`.
        SandboxError: nothing works; says why for each that was tried.
    """
    if name not in NAMES:
        raise unknown_name("sandbox", name, NAMES)
    ways: dict[str, Callable[[], Backend]] = {
        "bubblewrap": lambda: Bubblewrap(inspect_interpreter(python, tuple(packages))),
        **{engine: lambda engine=engine: Container(engine, image) for engine in ENGINES},  # type: ignore[misc]
    }
    if name == "none":
        if unsafe_code:
            return _bare(packages)
        raise SandboxError("without a sandbox, programs can do whatever you can", place="none", remedy=_INSIST)
    problems = []
    for way in ways if name == "auto" else [name]:
        try:
            return _proven(ways[way]())
        except SandboxError as error:
            problems.append(str(error))
    if unsafe_code and name == "auto":
        return _bare(packages)
    remedy = "" if name != "auto" else f"; {INSTALL}, or {_INSIST}"
    raise SandboxError("no sandbox for model-written code: " + "; ".join(problems) + remedy)


_INSIST = "say unsafe_code=true if this host is expendable"


def _proven(backend: Backend) -> Backend:
    try:
        outcome = run_program(_PROBE, Limits(seconds=20.0), backend)
    except SandboxError as error:
        blocked = backend.name == "bubblewrap" and any(word in str(error).lower() for word in _NAMESPACE_WORDS)
        raise SandboxError(error.problem, place=error.place, remedy=_NO_NAMESPACES if blocked else None) from error
    if not outcome.passed:
        raise SandboxError(f"a program of two lines fails in it: {outcome.error}", place=backend.name)
    return backend


def _bare(packages: Iterable[str]) -> Backend:
    found = inspect_interpreter(None, tuple(packages)).packages
    return Bare(str(found[0].parent) if found else "")
