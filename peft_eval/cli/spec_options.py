"""Click options made from the fields of the training specification and of every method's options.

A field's type, limits, default and description are written once, where it is defined; the command
line follows. Values stay as text here: the specification checks them, all at once.
"""

from __future__ import annotations

import typing
from typing import Any, Literal

import click
from pydantic.fields import FieldInfo

from peft_eval import plugins
from peft_eval.errors import PluginError
from peft_eval.training.resolve import option_of
from peft_eval.training.spec import spec_fields

RUN_GROUP = "Run"


class GroupedOption(click.Option):
    """An option that knows the heading of the help text it belongs under."""

    def __init__(self, *args: Any, group: str = RUN_GROUP, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists its options under headings, in the order of their first option."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes one section for each heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "group", RUN_GROUP), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def spec_options() -> list[click.Option]:
    """Returns an option for each field of the specification, then for each method's options.

    Raises:
        PluginError: a method's option has the name of a setting.
    """
    options = [
        _option(name, field, field.json_schema_extra["group"], _default_of(name, field))  # type: ignore[index,arg-type,call-overload]
        for name, field in spec_fields().items()
    ]
    owners: dict[str, list[str]] = {}
    fields: dict[str, FieldInfo] = {}
    for method in plugins.methods().values():
        for name, field in method.options.model_fields.items():
            if name in spec_fields():
                raise PluginError(f"option {name!r} of method {method.name!r} is a setting of training already")
            owners.setdefault(name, []).append(method.name)
            fields.setdefault(name, field)
    for name, field in fields.items():
        heading = f"Options of --method {', '.join(owners[name])}"
        options.append(_option(name, field, heading, _shown(field.default)))
    return options


def _option(name: str, field: FieldInfo, group: str, default: str | None) -> click.Option:
    description = field.description or ""
    if default:
        description += f"  [default: {default}]"
    kinds = [kind for kind in (field.annotation, *typing.get_args(field.annotation)) if kind is not type(None)]
    if bool in kinds:
        return GroupedOption(
            [f"{option_of(name)}/--no-{option_of(name)[2:]}", name], default=None, help=description, group=group
        )
    return GroupedOption([option_of(name), name], metavar=_metavar(name, kinds), help=description, group=group)


def _metavar(name: str, kinds: list[Any]) -> str:
    for kind in kinds:
        if typing.get_origin(kind) is Literal:
            return "|".join(typing.get_args(kind))
        if typing.get_origin(kind) is list:
            return "NAME,..."
    if int in kinds:
        return "N"
    if float in kinds:
        return "X"
    return {"base": "BASE", "output": "DIR", "data": "NAME[:LOCATION]"}.get(name, "NAME")


def _default_of(name: str, field: FieldInfo) -> str | None:
    by_method = {
        method.name: method.training_defaults[name]
        for method in plugins.methods().values()
        if name in method.training_defaults
    }
    if field.default is None and by_method:
        return ", ".join(f"{value} for {method}" for method, value in by_method.items())
    return _shown(field.default)


def _shown(default: Any) -> str | None:
    if default is None or default is ... or repr(default) == "PydanticUndefined":
        return None
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:g}" if isinstance(default, float) else str(default)
