"""`peft-eval zoo`: shared checkpoints: looking for them, adding, checking, fetching and sending."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from peft_eval.checkpoint import zoo_index
from peft_eval.cli.listing import print_json, print_table, printable

if TYPE_CHECKING:
    from peft_eval.zoo.folder_zoo import FolderZoo
    from peft_eval.zoo.records import VersionRecord

_FAILED = 1
_COLUMNS = ["name", "version", "method", "weights trained", "MB", "base", "scores", "licence"]
_MOST_SCORES = 2
_SHOWN = ("summary", "kind", "method", "base", "base_revision", "parameters", "data", "trainer", "created", "licence")
_WHERE = "a folder, an address (s3://, gs://, ssh://, http:// ...) or hf:ORG/NAME"

_zoo_option = click.option(
    "--zoo", "where", metavar="ZOO", help=f"Another zoo: {_WHERE}. Default: yours, then the one that comes along."
)
_folder_option = click.option(
    "--zoo",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The zoo's folder. Default: PEFT_EVAL_ZOO, else one in your user data.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@click.group("zoo")
def command() -> None:
    """Share checkpoints: list, search, show, add, verify, pull, push, remove.

    Wherever a checkpoint is named, zoo:NAME means the newest version of that name and zoo:NAME@VERSION exactly one.
    """


@command.command("list")
@_zoo_option
@_json_option
def list_(where: str | None, as_json: bool) -> None:
    """List the checkpoints of your zoo and of the one that comes with peft-eval.

    \b
    Examples:
      peft-eval zoo list
      peft-eval zoo list --zoo s3://bucket/zoo --json
    """
    with zoo_index.without_collection():
        _print(list(_rows(where)), as_json)


@command.command()
@click.argument("words", nargs=-1, required=True)
@_zoo_option
@_json_option
def search(words: tuple[str, ...], where: str | None, as_json: bool) -> None:
    """List the checkpoints in whose name, method, base, tags, licence or summary all WORDS occur.

    \b
    Examples:
      peft-eval zoo search lora
      peft-eval zoo search llama-3 apache
    """
    wanted = [word.lower() for word in words]
    with zoo_index.without_collection():
        _print([row for row in _rows(where) if all(word in _searched(row) for word in wanted)], as_json)


@command.command()
@click.argument("name", metavar="NAME[@VERSION]")
@_zoo_option
@_json_option
def show(name: str, where: str | None, as_json: bool) -> None:
    """Show what is known of a checkpoint, and its versions.

    \b
    Examples:
      peft-eval zoo show lora-4
      peft-eval zoo show lora-4 --json | jq .about.unknown
    """
    from peft_eval.zoo.records import read_record
    from peft_eval.zoo.remote import described_elsewhere

    record: VersionRecord | None
    folder: Path | None = None
    if where and not Path(where).is_dir():
        record, entry = described_elsewhere(where, name)
    else:
        place = _place(name, Path(where) if where else None)
        record, entry = read_record(place.folder), zoo_index.read_entries(place.zoo)[place.name]
        folder = place.folder
    if as_json:
        kept = record.model_dump(mode="json") if record else {}
        print_json(
            {
                **kept,
                "folder": str(folder) if folder else None,
                "versions": list(entry["versions"]),
                "tags": entry.get("tags", {}),
            }
        )
        return
    for label, value in _facts(record.about.model_dump() if record else {}):
        _say(f"{label:<16} {value}")
    _say(f"{'folder':<16} {folder or where}")
    rows = [
        [version, row.get("added", ""), ", ".join(tag for tag, one in entry.get("tags", {}).items() if one == version)]
        for version, row in entry["versions"].items()
    ]
    print_table(["version", "added", "tags"], rows)


@command.command()
@click.argument("source", metavar="CHECKPOINT")
@click.option("--name", help="Its name in the zoo. Default: the folder's.")
@click.option("--base", metavar="BASE", help="Its base, as others can name it: zoo:NAME or a hub id.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A name for this version, e.g. v1; it never moves.")
@click.option(
    "--scores",
    type=click.Path(path_type=Path, exists=True),
    help="lm-eval's results with samples, to go on the card: a results file or the folder it is in.",
)
@click.option("--command", "made_by", metavar="TEXT", help="The command that made those results, for the card.")
@click.option("--licence", metavar="ID", help="Its licence, e.g. apache-2.0.")
@click.option("--summary", metavar="TEXT", help="A line for lists and the card.")
@click.option("--probe/--no-probe", "probes", default=True, help="Measure what the adapter changes. [default: probe]")
@click.option(
    "--sign-key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Sign it with this private key (PEM, NIST curve). Needs the extra peft-eval[sign].",
)
@_folder_option
def add(source: str, folder: Path | None, sign_key: Path | None, made_by: str | None, **given: Any) -> None:
    """Add a checkpoint: a folder or a hub id, of peft-eval or of another trainer.

    Of one made elsewhere (peft by itself, TRL, axolotl, LLaMA-Factory, torchtune) the card has what its files tell, and
    a list of what they do not.

    \b
    Examples:
      peft-eval zoo add runs/lora-4
      peft-eval zoo add runs/lora-4 --scores results/lora-4 --licence apache-2.0 --tag v1
      peft-eval zoo add outputs/checkpoint-500 --name my-sft --base meta-llama/Llama-3.2-1B
    """
    from peft_eval.zoo.adding import Addition, add

    sign = None
    if sign_key is not None:
        from peft_eval.zoo.signing import sign as sign_with

        sign = functools.partial(sign_with, key=sign_key)
    added = add(Addition(source, command=made_by, sign=sign, **given), _zoo(folder))
    _say(f"{added.place.pinned}: {'added' if added.is_new else 'already there'}, {added.place.folder}")
    if added.left_out:
        _say(f"left out: {', '.join(added.left_out)}")
    if added.is_new and added.record.about.unknown:
        _say(f"unknown: {', '.join(added.record.about.unknown)}")


@command.command()
@click.argument("name", metavar="NAME[@VERSION]")
@click.option("--scores", is_flag=True, help="Ask some questions of its evaluation again, with transformers.")
@click.option("--questions", type=click.IntRange(1), default=32, show_default=True, help="How many, with --scores.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of their choice.")
@click.option(
    "--public-key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The key that its signature must be of. Needs the extra peft-eval[sign].",
)
@_folder_option
@_json_option
@click.pass_context
def verify(
    ctx: click.Context,
    name: str,
    scores: bool,
    questions: int,
    seed: int,
    public_key: Path | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Hash a checkpoint's files again, check its base, replay the probe, and on demand ask a part of its evaluation.

    The exit code is 0 if nothing is bad, else 1.

    \b
    Examples:
      peft-eval zoo verify lora-4
      peft-eval zoo verify lora-4@6a1f0c33be02 --scores --public-key author.pub
    """
    from dataclasses import asdict

    from peft_eval.zoo.verifying import verify

    found = []
    for check in verify(_place(name, folder), questions=questions if scores else 0, seed=seed, public_key=public_key):
        found.append(check)
        if not as_json:
            _say(f"{check.state:<5}{check.name:<12}{check.found}{f' ({check.remedy})' if check.remedy else ''}")
    if as_json:
        print_json([asdict(check) for check in found])
    ctx.exit(_FAILED if any(check.state == "bad" for check in found) else 0)


@command.command()
@click.argument("name", metavar="NAME[@VERSION]")
@_folder_option
def remove(name: str, folder: Path | None) -> None:
    """Remove a version from your zoo, or without @VERSION all versions of a name.

    \b
    Example:
      peft-eval zoo remove my-sft@6a1f0c33be02
    """
    gone = _zoo(folder).remove(*zoo_index.split_name(name))
    for version in gone:
        _say(f"removed {zoo_index.split_name(name)[0]}@{version}")


@command.command()
@click.argument("source")
@click.argument("names", nargs=-1, metavar="[NAME[@VERSION]]...")
@_folder_option
def pull(source: str, names: tuple[str, ...], folder: Path | None) -> None:
    """Fetch checkpoints into your zoo: from another zoo (a folder or an address), or from the hub (hf:ORG/NAME).

    Every file is held against its hash. A stopped fetch goes on where it was.

    \b
    Examples:
      peft-eval zoo pull s3://bucket/zoo lora-4 lora-8@6a1f0c33be02
      peft-eval zoo pull https://example.org/zoo lora-4
      peft-eval zoo pull hf:my-org/lora-4
    """
    from peft_eval.zoo.transfer import pull

    for place, is_new in pull(source, names, _zoo(folder)):
        _say(f"{place.pinned}: {'fetched' if is_new else 'already there'}, {place.folder}")


@command.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME[@VERSION]...")
@click.argument("target")
@click.option("--private", is_flag=True, help="On the hub: make the repository private if it has to be made.")
@_folder_option
def push(names: tuple[str, ...], target: str, private: bool, folder: Path | None) -> None:
    """Send checkpoints to another zoo (a folder or an address), or one to the hub (hf:ORG/NAME).

    What is there already is not sent again, so a stopped push goes on where it was. Keys and tokens come from the
    environment, as the library of each protocol reads them (AWS_*, GOOGLE_*, HF_TOKEN, ssh's agent).

    \b
    Examples:
      peft-eval zoo push lora-4 lora-8 s3://bucket/zoo
      peft-eval zoo push lora-4 hf:my-org/lora-4
    """
    from peft_eval.zoo.transfer import push

    for line in push([_place(name, folder) for name in names], target, private=private):
        _say(line)


def _say(line: str) -> None:
    click.echo(printable(line))


def _zoo(folder: Path | None) -> FolderZoo:
    from peft_eval.zoo.folder_zoo import FolderZoo

    return FolderZoo(folder or zoo_index.user_zoo())


def _place(reference: str, folder: Path | None) -> zoo_index.ZooPlace:
    """Returns where a version is: in one folder, or wherever `zoo:` leads."""
    if folder is None:
        return zoo_index.find(reference)
    name, version = zoo_index.split_name(reference)
    return zoo_index.find_in([folder], name, version or zoo_index.LATEST)


def _rows(where: str | None) -> Iterator[dict[str, Any]]:
    """Yields the newest version of each name as a flat row."""
    if where is None:
        zoos: list[tuple[str, Callable[[], dict[str, Any]]]] = [
            (str(zoo), functools.partial(zoo_index.read_entries, zoo)) for zoo in zoo_index.zoos()
        ]
    elif Path(where).is_dir():
        zoos = [(where, functools.partial(zoo_index.read_entries, Path(where)))]
    else:
        from peft_eval.zoo.remote import entries_of

        zoos = [(where, functools.partial(entries_of, where))]
    for place, read in zoos:
        for name, entry in sorted(read().items()):
            version = zoo_index.version_named(entry, zoo_index.LATEST)
            row = entry["versions"].get(version) or {}
            yield {
                "name": name,
                "version": version,
                "versions": len(entry["versions"]),
                "tags": entry.get("tags", {}),
                **row,
                "zoo": place,
            }


def _searched(row: dict[str, Any]) -> str:
    parts = (row.get(key) for key in ("name", "method", "base", "licence", "summary", "version"))
    return " ".join([*(str(part) for part in parts if part), *row["tags"]]).lower()


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    print_table(_COLUMNS, [_cells(row) for row in rows], right=["weights trained", "MB"])
    if not rows:
        click.echo("nothing found; everything there is: peft-eval zoo list")


def _cells(row: dict[str, Any]) -> list[str]:
    more = f" (of {row['versions']})" if row["versions"] > 1 else ""
    parameters = row.get("parameters")
    return [
        row["name"],
        f"{row['version']}{more}",
        str(row.get("method") or ("full" if row.get("kind") == "full" else "unknown")),
        f"{parameters:,}" if parameters else "",
        f"{row.get('bytes', 0) / 1e6:.2f}",
        str(row.get("base") or ""),
        _scores(row.get("scores") or {}),
        str(row.get("licence") or "unknown"),
    ]


def _scores(scores: dict[str, dict[str, Any]]) -> str:
    """Returns the first scores in a line: `mini_unseen rougeL 24.1 ± 1.2`."""
    told = []
    for suite, found in list(scores.items())[:1]:
        for metric, (value, half) in list(found.items())[:_MOST_SCORES]:
            told.append(f"{metric} {value:.1f}" + (f" ± {half:.1f}" if half is not None else ""))
        told[:1] = [f"{suite} {told[0]}"] if told else []
    return ", ".join(told)


def _facts(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key in _SHOWN:
        if about.get(key) is not None:
            value = about[key]
            yield key.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)
    yield from about.get("facts", {}).items()
    if about.get("unknown"):
        yield "unknown", ", ".join(about["unknown"])
