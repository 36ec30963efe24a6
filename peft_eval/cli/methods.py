"""`peft-eval methods`: what `peft-eval train --method` takes, with each method's options and defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from peft_eval.cli.listing import print_json, print_table

if TYPE_CHECKING:
    from peft_eval.methods.method import Method, MethodOptions


@click.command("methods")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(as_json: bool) -> None:
    """List the training methods and their options.

    \b
    Examples:
      peft-eval methods
      peft-eval methods --json | jq '.[] | select(.mergeable)'
      peft-eval train --base BASE --method lora --rank 8 --data mini --output runs/lora-8
    """
    from peft_eval.plugins import methods

    found = [_described(method) for method in methods().values()]
    if as_json:
        print_json(found)
        return
    rows = [[one["name"], one["kind"], "yes" if one["mergeable"] else "no", one["summary"]] for one in found]
    print_table(["method", "kind", "mergeable", "what it trains"], rows)
    options = [
        [one["name"], option["name"], option["type"], str(option["default"]), option["description"]]
        for one in found
        for option in one["options"]
    ]
    print_table(["method", "option", "type", "default", "meaning"], options)


def _described(method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "kind": method.kind,
        "mergeable": method.mergeable,
        "summary": method.summary,
        "options": _options_of(method.options),
    }


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


def _type_name(schema: dict[str, Any]) -> str:
    """Returns a JSON schema's type in one word or two: `integer`, `number or null`, `one of a, b`."""
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type_name(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type_name(schema.get('items', {}))}"
    return str(schema.get("type", "any"))
