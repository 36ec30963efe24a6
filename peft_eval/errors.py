"""Errors that a user can cause: one line with the value, the place and the remedy.

Everything the command line may print instead of a traceback derives from `PeftEvalError`. The
exit code is 2, as for a wrong option.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

SHOWN_ERRORS = 50


class PeftEvalError(Exception):
    """Base of all errors meant for the user.

    Args:
        problem: what is wrong, with the offending value.
        place: where it is wrong (a file and field, an option, a config key).
        remedy: what to do about it.
    """

    exit_code = 2

    def __init__(self, problem: str, *, place: str | None = None, remedy: str | None = None):
        self.problem = problem
        self.place = place
        self.remedy = remedy
        super().__init__(problem, place, remedy)

    def __str__(self) -> str:
        line = f"{self.place}: {self.problem}" if self.place else self.problem
        return f"{line} ({self.remedy})" if self.remedy else line


class ConfigError(PeftEvalError):
    """An option, config key or name that does not exist or does not fit."""


class DataError(PeftEvalError):
    """A data file or folder that is missing, broken or incomplete."""


class CheckpointError(PeftEvalError):
    """A checkpoint that is missing, half-written, damaged or unsafe."""


class DiskFullError(CheckpointError):
    """There is no room for what was to be written."""


class DivergenceError(PeftEvalError):
    """A training run whose loss or weights became NaN or infinite."""


class BaseMismatchError(CheckpointError):
    """A checkpoint and a base model that do not belong together."""


class RouteError(PeftEvalError):
    """A checkpoint that cannot be served the way it was asked for."""


class ProbeError(PeftEvalError):
    """The adapter changes nothing, or merged and unmerged model differ too much."""


class JudgeError(PeftEvalError):
    """A judge that cannot be reached, refuses the key, or cannot be run here."""


class SandboxError(PeftEvalError):
    """Model-written code that cannot be run in isolation."""


class PluginError(PeftEvalError):
    """A plugin that breaks the contract of `peft_eval.hookspecs`."""


class ManyErrors(PeftEvalError):
    """Several errors found in one pass, printed one a line."""

    def __init__(self, errors: Iterable[PeftEvalError]):
        self.errors = list(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


def raise_all(errors: Iterable[PeftEvalError]) -> None:
    """Raises what was gathered: nothing, the single error itself, or `ManyErrors`, which counts all beyond fifty."""
    found = list(errors)
    if len(found) > SHOWN_ERRORS:
        found[SHOWN_ERRORS:] = [DataError(f"{len(found) - SHOWN_ERRORS:,} more of this kind")]
    if len(found) == 1:
        raise found[0]
    if found:
        raise ManyErrors(found)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error, what it was raised from or while handling, and so on to the first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def first_few(names: Sequence[str]) -> str:
    """Lists names for a line of text: five at most."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def unknown_name(kind: str, name: str, known: Iterable[str], *, place: str | None = None) -> ConfigError:
    """Builds the error for a name that does not exist, listing near matches or all names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        remedy = f"did you mean {' or '.join(near)}?"
    elif names:
        remedy = f"known: {', '.join(names)}"
    else:
        remedy = "none is registered"
    return ConfigError(f"unknown {kind} {name!r}", place=place, remedy=remedy)
