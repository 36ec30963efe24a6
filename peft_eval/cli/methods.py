"""`peft-eval methods`: what `peft-eval train --method` takes; with a name, that method's options and defaults."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from peft_eval.cli.listing import print_json, print_table

if TYPE_CHECKING:
    from peft_eval.methods.method import Method, MethodOptions

_WIDTH_WITH_SOURCES = 100  # a narrower terminal shows what is trained in full instead


@click.command("methods")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, options included, instead of a table.")
def command(name: str | None, as_json: bool) -> None:
    """List the training methods; with a NAME, show that method's options.

    \b
    Examples:
      peft-eval methods
      peft-eval methods vera
      peft-eval methods --json | jq '.[] | select(.type == "LORA") | .name'
      peft-eval train --base BASE --method lora --rank 8 --data mini --output runs/lora-8
    """
    from peft_eval.methods.catalogue import unavailable
    from peft_eval.methods.measured import in_short, measurements
    from peft_eval.plugins import methods, pick

    known = methods()
    if name is None:
        if as_json:
            print_json([described(method) for method in known.values()])
            return
        found = measurements()
        columns = ["method", "weights", "route", "what it trains", "source"]
        rows = [
            [one.name, *in_short(found.get(one.name)), one.summary, _source_of(one)]
            for one in sorted(known.values(), key=lambda one: one.name)
        ]
        if sys.stdout.isatty() and shutil.get_terminal_size().columns < _WIDTH_WITH_SOURCES:
            columns, rows = columns[:-1], [row[:-1] for row in rows]
        print_table(columns, rows, right=["weights"])
        click.echo("weights, route: what was found on the embedded base; all that was measured is in docs/methods.md")
        click.echo("A method's options: peft-eval methods NAME\n\nOf the installed peft, these are no methods:")
        for other, reason in unavailable().items():
            click.echo(f"  {other}: {reason}")
        return
    method = pick("method", name, known, place="NAME")
    if as_json:
        print_json(described(method))
        return
    _show(method)


def described(method: Method) -> dict[str, Any]:
    """Returns all that is known of a method, for `--json`."""
    from peft_eval.methods.measured import measurements

    return {
        "name": method.name,
        "kind": method.kind,
        "type": _type_of(method),
        "summary": method.summary,
        "source": _source_of(method),
        "measured": measurements().get(method.name),
        "training_defaults": dict(method.training_defaults),
        "options": _options_of(method.options),
    }


def _show(method: Method) -> None:
    from peft_eval.methods.measured import in_words, measurements

    preset = getattr(method, "preset", None)
    click.echo(f"{method.name}: {method.summary}")
    for label, value in (
        ("type", _type_of(method)),
        ("source", _source_of(method)),
        ("first step", preset.start if preset else ""),
        ("training", ", ".join(f"{key} {value}" for key, value in method.training_defaults.items())),
    ):
        if value:
            click.echo(f"  {label}: {value}")
    click.echo("on the embedded base:")
    for label, value in in_words(measurements().get(method.name)):
        click.echo(f"  {label}: {value}")
    rows = [
        [option["name"], option["type"], _written(option["default"]), option["description"]]
        for option in _options_of(method.options)
    ]
    if rows:
        print_table(["option", "type", "default", "meaning"], rows)
        click.echo("A table or a list of lists is set in a TOML file or with --set, e.g. --set rank_pattern={q_proj=4}")
    for setting, reason in _not_offered(method).items():
        click.echo(f"not offered: {setting}, {reason}")


def _type_of(method: Method) -> str:
    """Returns the adapter's type as its configuration names it, `full weights` for a whole model."""
    if method.kind == "full":
        return "full weights"
    preset = getattr(method, "preset", None)
    tuners = getattr(method, "tuners", ())
    return preset.peft_type if preset else ", ".join(tuner.peft_type for tuner in tuners) or "adapter"


def _source_of(method: Method) -> str:
    """Returns the paper where the method says it, else the package that it comes from."""
    preset = getattr(method, "preset", None)
    paper = preset.source if preset else getattr(method, "source", "")
    return paper or ("peft" if preset else type(method).__module__.partition(".")[0].replace("_", "-"))


def _not_offered(method: Method) -> dict[str, str]:
    from peft_eval.methods.peft_types import fields_of
    from peft_eval.methods.presets import NOT_OFFERED

    preset = getattr(method, "preset", None)
    return {name: NOT_OFFERED[name] for name in fields_of(preset.peft_type) if name in NOT_OFFERED} if preset else {}


def _options_of(options: type[MethodOptions]) -> list[dict[str, Any]]:
    """Returns name, type, default and meaning of each option; a default of None reads as `null` in JSON."""
    types = {name: schema for name, schema in options.model_json_schema().get("properties", {}).items()}
    return [
        {
            "name": name,
            "type": _type_name(types.get(name, {})),
            "default": None if field.is_required() else field.get_default(call_default_factory=True),
            "description": field.description or "",
        }
        for name, field in options.model_fields.items()
    ]


def _written(default: Any) -> str:
    if default is None or default in ({}, []):
        return ""
    return ("off", "on")[default] if isinstance(default, bool) else str(default)


def _type_name(schema: dict[str, Any]) -> str:
    """Returns a JSON schema's type in one word or two: `integer`, `number or null`, `one of a, b`."""
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return " or ".join(_type_name(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type_name(schema.get('items', {}))}"
    return {"object": "table"}.get(str(schema.get("type", "any")), str(schema.get("type", "any")))
