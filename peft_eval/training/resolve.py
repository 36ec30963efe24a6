"""From options, `--set` and a TOML file to one checked `TrainSpec`, with all errors at once.

Every value carries the place it came from, so that an error names the option or the file and key.
"""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from peft_eval import plugins
from peft_eval.errors import ConfigError, ManyErrors, PeftEvalError, first_few, raise_all, unknown_name
from peft_eval.training.spec import TrainSpec, spec_fields

Placed = dict[str, tuple[Any, str]]


def option_of(key: str) -> str:
    """Returns the command's option for a key: `max_steps` is `--max-steps`."""
    return "--" + key.replace("_", "-")


def from_options(values: Mapping[str, Any]) -> Placed:
    """Places values given as options; those that are None were not given."""
    return {key: (value, option_of(key)) for key, value in values.items() if value is not None}


def from_assignments(assignments: Iterable[str]) -> Placed:
    """Places `--set KEY=VALUE`; the value is read as TOML where it is TOML, else as a string.

    Raises:
        ConfigError: there is no `=`.
    """
    placed: Placed = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{assignment!r} is not KEY=VALUE", place="--set", remedy="e.g. --set rank=16")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        placed[key.strip()] = (value, f"--set {key.strip()}")
    return placed


def read_toml(path: Path) -> dict[str, Any]:
    """Returns a TOML file's content.

    Raises:
        ConfigError: it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"cannot be read: {reason}", place=str(path), remedy="check the path") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", place=str(path)) from error


def from_file(path: Path) -> Placed:
    """Places the keys of a TOML file.

    Raises:
        ConfigError: it cannot be read or is not TOML.
    """
    values = read_toml(path)
    return {key: (value, f"{path}: {key}") for key, value in values.items()}


def resolve(*layers: Placed) -> TrainSpec:
    """Merges layers, the first one winning, and checks every value.

    Raises:
        ConfigError, ManyErrors: all that is wrong: unknown keys, methods and data sources (with
            near matches), options of another method, values that do not fit, missing settings.
    """
    placed: Placed = {}
    for layer in reversed(layers):
        placed.update(layer)
    methods = plugins.methods()
    errors: list[PeftEvalError] = []
    method_name, method_place = placed.get("method", (TrainSpec.model_fields["method"].default, "--method"))
    if method_name not in methods:
        errors.append(unknown_name("method", str(method_name), methods, place=method_place))
    errors += _unknown_data(placed)
    own = set(methods[method_name].options.model_fields) if method_name in methods else None
    errors += _unknown_keys(placed, own, str(method_name))

    fields = spec_fields()
    settings = {key: _listed(TrainSpec, key, value) for key, (value, _) in placed.items() if key in fields}
    options: dict[str, Any] = {}
    if own is not None:
        model = methods[method_name].options
        options = {key: _listed(model, key, value) for key, (value, _) in placed.items() if key in own}
        errors += _misfits(model, options, placed)
    valid_options = {} if errors else options
    if own is None:
        settings.pop("method", None)
    errors += _misfits(TrainSpec, {**settings, "options": valid_options}, placed)
    raise_all(errors)
    return TrainSpec(**settings, options=options)


def _unknown_data(placed: Placed) -> list[PeftEvalError]:
    value, place = placed.get("data", (None, ""))
    name = str(value).partition(":")[0]
    if value is None or name in plugins.datasets():
        return []
    return [unknown_name("data source", name, plugins.datasets(), place=place)]


def _unknown_keys(placed: Placed, own: set[str] | None, method: str) -> list[PeftEvalError]:
    errors: list[PeftEvalError] = []
    unknown = {key: place for key, (_, place) in placed.items() if key not in spec_fields() and key not in (own or ())}
    if not unknown:
        return errors
    elsewhere: dict[str, list[str]] = {}
    for name, other in plugins.methods().items():
        for key in other.options.model_fields:
            elsewhere.setdefault(key, []).append(name)
    for key, place in unknown.items():
        if key not in elsewhere:
            errors.append(unknown_name("setting", key, {*spec_fields(), *(own or ())}, place=place))
        elif own is not None:
            errors.append(
                ConfigError(
                    f"method {method} has no setting {key!r}",
                    place=place,
                    remedy=f"it belongs to {first_few(elsewhere[key])}",
                )
            )
    return errors


def _listed(model: type[BaseModel], key: str, value: Any) -> Any:
    """Splits `a,b` where the field is a list."""
    annotation = model.model_fields[key].annotation
    is_list = any(typing.get_origin(part) is list for part in (annotation, *typing.get_args(annotation)))
    return [part.strip() for part in value.split(",")] if is_list and isinstance(value, str) else value


def _misfits(model: type[BaseModel], values: dict[str, Any], placed: Placed) -> list[PeftEvalError]:
    try:
        model(**values)
    except ManyErrors as error:
        return list(error.errors)
    except PeftEvalError as error:
        return [error]
    except ValidationError as error:
        return [_misfit(detail, placed) for detail in error.errors()]
    return []


def _misfit(detail: Any, placed: Placed) -> ConfigError:
    key = str(detail["loc"][0]) if detail["loc"] else ""
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "missing":
        return ConfigError("is required", place=option_of(key), remedy=f"pass it, or set {key} in the config")
    value, place = placed.get(key, (None, option_of(key) if key else "settings"))
    shown = f"{value!r}: " if key in placed and repr(value) not in message else ""
    return ConfigError(shown + message[:1].lower() + message[1:], place=place)
