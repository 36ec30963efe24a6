"""Click options made from the fields of the training specification and of one method's options.

A field's type, limits, default and description are written once, where it is defined; the command
line follows. Values stay as text here: the specification checks them, all at once.
"""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any, Literal

import click
from pydantic.fields import FieldInfo

from peft_eval.errors import PluginError
from peft_eval.training.resolve import option_of
from peft_eval.training.spec import spec_fields

if TYPE_CHECKING:
    from peft_eval.methods.method import Method

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


def spec_options(method: Method) -> list[click.Parameter]:
    """Returns an option for each field of the specification, then for the method's own.

    Raises:
        PluginError: an option of the method has the name of a setting.
    """
    options: list[click.Parameter] = [
        _option(name, field, field.json_schema_extra["group"], _default_of(name, field, method))
        for name, field in spec_fields().items()
    ]
    for name, field in method.options.model_fields.items():
        if name in spec_fields():
            raise PluginError(f"option {name!r} of method {method.name!r} is a setting of training already")
        if not is_table(field):
            options.append(_option(name, field, f"Options of --method {method.name}", _shown(field.default)))
    return options


def is_table(field: FieldInfo) -> bool:
    """Tells whether a field holds a table, which only a TOML file or `--set` can write."""
    kinds = (field.annotation, *typing.get_args(field.annotation))
    return any(typing.get_origin(kind) is dict for kind in kinds)


def _option(name: str, field: FieldInfo, group: str, default: str | None) -> click.Option:
    description = field.description or ""
    if default:
        description += f"  [default: {default}]"
    kinds = [kind for kind in (field.annotation, *typing.get_args(field.annotation)) if kind is not type(None)]
    if kinds == [bool]:
        return GroupedOption(
            [f"{option_of(name)}/--no-{option_of(name)[2:]}", name], default=None, help=description, group=group
        )
    return GroupedOption([option_of(name), name], metavar=_metavar(name, kinds), help=description, group=group)


def _metavar(name: str, kinds: list[Any]) -> str:
    for kind in kinds:
        if typing.get_origin(kind) is Literal:
            return "|".join(str(value) for value in typing.get_args(kind))
        if typing.get_origin(kind) is list:
            return "N,..." if typing.get_args(kind) == (int,) else "NAME,..."
    if int in kinds:
        return "N"
    if float in kinds:
        return "X"
    return {"base": "BASE", "output": "DIR", "data": "NAME[:LOCATION]"}.get(name, "NAME")


def _default_of(name: str, field: FieldInfo, method: Method) -> str | None:
    default = method.training_defaults.get(name) if field.default is None else field.default
    return _shown(default)


def _shown(default: Any) -> str | None:
    if default is None or default is ... or repr(default) == "PydanticUndefined":
        return None
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:g}" if isinstance(default, float) else str(default)
