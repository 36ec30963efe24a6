"""`peft-eval data`: fetching the data that suites and training need, and looking at it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from peft_eval.errors import ConfigError


@click.group(name="data")
def command() -> None:
    """Fetch instruction data and look at it."""


@command.group()
def get() -> None:
    """Fetch a data set into the cache or a folder."""


@get.command(short_help="Super-NaturalInstructions (Apache-2.0).")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to make. Default: the user's cache, where training and suites look by themselves.",
)
@click.option("--url", help="Fetch from this address instead: a mirror of the official archive (.tar.gz).")
@click.option("--sha256", help="Hash that the archive must have.")
@click.option(
    "--trust-first-download",
    is_flag=True,
    help="Accept an archive of which no hash is known. Its hash is kept beside the data and asked of every later one.",
)
def superni(output: Path | None, url: str | None, sha256: str | None, trust_first_download: bool) -> None:
    """Fetch Super-NaturalInstructions: the official repository's tasks/ and splits/ at a pinned commit.

    The archive is checked by its hash and the test lists in it by name. A stopped fetch goes on where it was.

    \b
    Example:
      peft-eval data get superni --trust-first-download
      peft-eval train --data superni ...
    """
    from peft_eval.data.fetch import fetch
    from peft_eval.data.location import fetched_folder
    from peft_eval.data.superni.official import OFFICIAL_ARCHIVE, check_official

    spec = replace(
        OFFICIAL_ARCHIVE, url=url or OFFICIAL_ARCHIVE.url, sha256=(sha256 or "").lower() or OFFICIAL_ARCHIVE.sha256
    )
    folder = output or fetched_folder("superni")
    record, new = fetch(spec, folder, check=check_official, trust_first_download=trust_first_download)
    state = f"{record.files} files" if new else "already there"
    click.echo(f"{folder}: {state}, commit {record.commit[:12]}, archive sha256 {record.sha256}")
    if output:
        click.echo(
            f"use it with `--data superni:{folder}`, `--metadata superni={folder}` or PEFT_EVAL_SUPERNI={folder}"
        )


def _fetches(name: str, title: str, licence: str, from_archive: bool) -> click.Command:
    """Makes the command that fetches a data set whose address and hashes `peft_eval.data.upstream` knows."""
    hashes = "its hash" if from_archive else "the hash of each"
    what = "one archive" if from_archive else "the files"

    @click.option("--output", type=click.Path(path_type=Path, file_okay=False), help=_OUTPUT_HELP)
    @click.option("--url", help="Fetch from this address instead: " + ("a mirror." if from_archive else _BASE_HELP))
    @click.option("--sha256", multiple=True, metavar="HASH" if from_archive else "FILE=HASH", help=_HASH_HELP)
    @click.option("--trust-first-download", is_flag=True, help=_TRUST_HELP)
    def fetch_data_set(
        output: Path | None, url: str | None, sha256: tuple[str, ...], trust_first_download: bool
    ) -> None:
        from peft_eval.data.location import environment_variable, fetched_folder

        folder = output or fetched_folder(name)
        get = _get_archive if from_archive else _get_files
        record, new = get(name, folder, url, sha256, trust_first_download)
        state = f"{record.files} files" if new else "already there"
        click.echo(f"{folder}: {state}, commit {record.commit[:12]}, sha256 {record.sha256}")
        if output:
            click.echo(f"use it with `--metadata {name}={folder}` or {environment_variable(name)}={folder}")

    text = f"""Fetch {title} ({licence}): {what} at a pinned commit.

    Checked by {hashes}, then read whole. A stopped fetch goes on where it was.

    \b
    Example:
      peft-eval data get {name}
    """
    return get.command(name=name, help=text, short_help=f"{title} ({licence}).")(fetch_data_set)


_OUTPUT_HELP = "Folder to make. Default: the user's cache, where suites look by themselves."
_BASE_HELP = "a mirror's folder, below which the files have the same paths."
_HASH_HELP = "A hash to check by, instead of ours."
_TRUST_HELP = "Accept what has no known hash. Its hash is kept beside the data and asked of every later download."
_DATA_SETS = (
    ("mmlu", "MMLU", "MIT", True),
    ("gsm8k", "GSM8K", "MIT", False),
    ("bbh", "BIG-Bench-Hard and its prompts", "MIT", False),
    ("tydiqa", "TyDiQA's gold passage task", "Apache-2.0", False),
    ("human_eval", "HumanEval", "MIT", False),
    ("alpaca_eval", "AlpacaEval's instructions and the answers to beat", "CC-BY-NC-4.0", False),
    ("toxigen", "ToxiGen's prompts", "MIT", False),
    ("truthfulqa", "TruthfulQA", "Apache-2.0", False),
)
for _data_set in _DATA_SETS:
    _fetches(*_data_set)


def _get_archive(name: str, folder: Path, url: str | None, sha256: tuple[str, ...], trust: bool) -> Any:
    from peft_eval.data.fetch import fetch
    from peft_eval.data.upstream import MMLU_ARCHIVE, check_data

    given = sha256[-1].lower() if sha256 else None
    spec = replace(MMLU_ARCHIVE, url=url or MMLU_ARCHIVE.url, sha256=given or MMLU_ARCHIVE.sha256)
    return fetch(spec, folder, check=partial(check_data, name), trust_first_download=trust)


def _get_files(name: str, folder: Path, url: str | None, sha256: tuple[str, ...], trust: bool) -> Any:
    from peft_eval.data.fetch_files import fetch_files
    from peft_eval.data.upstream import FILE_SETS, check_data

    spec = replace(FILE_SETS[name], base=url or FILE_SETS[name].base)
    given = {}
    for one in sha256:
        file, sign, digest = one.rpartition("=")
        if not sign:
            raise ConfigError(f"{one!r} names no file", place="--sha256", remedy="write FILE=HASH")
        given[file] = digest.lower()
    return fetch_files(spec, folder, check=partial(check_data, name), given=given, trust_first_download=trust)


@command.command()
@click.argument("source", metavar="NAME[:LOCATION]")
@click.option("--encoding", default="def", show_default=True, help="How prompts are made.")
@click.option("--tasks", type=click.IntRange(min=1), help="Draw so many tasks. Default: all.")
@click.option("--instances-per-task", type=click.IntRange(min=1), help="At most. Default: the source's own.")
@click.option("--seed", default=42, show_default=True, help="Seeds the draw.")
@click.option("--examples", type=click.IntRange(min=0), default=1, show_default=True, help="Print so many examples.")
def show(
    source: str, encoding: str, tasks: int | None, instances_per_task: int | None, seed: int, examples: int
) -> None:
    """Check a source of training data and show what a run would see of it.

    Every file is read; broken ones are listed together.

    \b
    Example:
      peft-eval data show superni:DIR --encoding def_pos2 --tasks 64
    """
    from peft_eval import plugins
    from peft_eval.cli.listing import print_table
    from peft_eval.data.source import Selection

    name, _, location = source.partition(":")
    chosen = plugins.pick("data source", name, plugins.datasets(), place="NAME")
    data = chosen.load(location or None, Selection(tasks, instances_per_task, encoding, seed))
    by_category: dict[str, tuple[set[str], int]] = {}
    for example in data.examples:
        names, count = by_category.get(example.category, (set(), 0))
        by_category[example.category] = (names | {example.task}, count + 1)
    rows = [(category, str(len(names)), str(count)) for category, (names, count) in sorted(by_category.items())]
    print_table(("category", "tasks", "examples"), rows, right=("tasks", "examples"))
    total = sum(len(names) for names, _ in by_category.values())
    click.echo(f"{data.source}: {len(data.examples)} examples of {total} tasks, content sha256 {data.content_sha256}")
    for note in data.notes:
        click.echo(f"note: {note}")
    for example in data.examples[:examples]:
        shown = (
            f"{example.source}|{example.target}|"
            if example.is_pair and not data.chat
            else "\n".join(f"<{message.role}> {message.content}" for message in example.messages)
        )
        click.echo(f"\n--- {example.task}, {example.instance_id}\n{shown}")
