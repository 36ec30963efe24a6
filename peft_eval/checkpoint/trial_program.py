"""The program of `peft_eval.checkpoint.trial`: run alone, with the standard library, Jinja and tokenizers.

Reads what to try from standard input. Says on standard output what it is at, on standard error what is wrong, which
ends it with exit code 1. Its own timer ends it where the processor time is up.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

_MEMORY_BYTES = 768 << 20
_SECONDS = 0.5
_SECONDS_PER_MIB = 0.1
_SAMPLE = "The quick brown fox, 12 apples; aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\n"
_LARGEST_NUMBER = 1_000_000


def main() -> None:
    """Tries everything that was asked for."""
    asked = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for place, text in asked["patterns"].items():
        _begin(place, _SECONDS)
        _try_pattern(text, asked["names"])
    for place, text in asked["templates"].items():
        _begin(place, 1.0)
        _try_template(text)
    if asked["tokenizer"]:
        _try_tokenizer(asked["tokenizer"])


def _begin(stage: str, seconds: float) -> None:
    print(stage, flush=True)
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _refuse(problem: str) -> NoReturn:
    print(problem, file=sys.stderr)
    sys.exit(1)


def _try_pattern(text: str, names: list[str]) -> None:
    try:
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError):
        return  # no regular expression, and so not used as one
    for name in names:
        for used in (pattern, re.compile(rf"(.*\.)?({text})$")):  # as peft uses them
            used.fullmatch(name)
            used.search(name)


def _conversations() -> Iterator[list[dict[str, str]]]:
    system = {"role": "system", "content": _SAMPLE}
    turns = [{"role": "user", "content": _SAMPLE}, {"role": "assistant", "content": _SAMPLE * 20}] * 10
    yield turns[:1]
    yield [system, *turns[:3]]
    yield turns
    yield []


def _try_template(text: str) -> None:
    import jinja2
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The tag that transformers adds, `{% generation %}`: what stands in it is rendered as it is."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)

    def raise_exception(message: str) -> NoReturn:
        raise jinja2.TemplateError(str(message))

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: "2026-01-01"
    try:
        _look_over(environment.parse(text), nodes)
        template = environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        _refuse(f"is no chat template: {error.message}, line {error.lineno}")
    except (RecursionError, MemoryError, SyntaxError):
        _refuse("is nested without end")
    for messages in _conversations():
        tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
        try:
            template.render(messages=messages, add_generation_prompt=True, tools=None, documents=None, **tokens)
        except SecurityError as error:
            _refuse(f"reaches for what templates must not have: {error}")
        except (OverflowError, MemoryError, RecursionError) as error:
            _refuse(f"takes too much when it is rendered: {type(error).__name__} {error}")
        except Exception:
            continue  # it refuses these turns, which is its right: a template may ask for a certain order


def _look_over(tree: Any, nodes: Any) -> None:
    """Refuses what no chat template needs, wherever it stands: on a way not taken by a sample, too."""
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        _refuse(f"reaches for another file, line {node.lineno}")
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Const)):
        name = node.attr if isinstance(node, nodes.Getattr) else node.value if isinstance(node, nodes.Const) else None
        if isinstance(name, str) and re.fullmatch(r"__\w+__", name):
            _refuse(f"reaches for Python's {name}, line {node.lineno}")
        if isinstance(name, int) and not isinstance(name, bool) and abs(name) > _LARGEST_NUMBER:
            _refuse(f"counts to {name}, line {node.lineno}"[:100])


def _try_tokenizer(path: str) -> None:
    mebibytes = Path(path).stat().st_size / 2**20
    _begin("tokenizer.json", 1.0 + _SECONDS_PER_MIB * mebibytes)
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(path)
        ids = tokenizer.encode(_SAMPLE * 4).ids
        tokenizer.decode(ids[:1000])
    except BaseException as error:  # a panic of the library is no Exception
        _refuse(f"is no tokenizer: {str(error)[:200]!a}")


if __name__ == "__main__":
    main()
