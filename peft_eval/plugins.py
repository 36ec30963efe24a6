"""Finds plugins and answers "which methods, data sources and suites are there?".

Built-ins come in through the same hooks as a stranger's package. A name given twice is refused
with both packages named, since a silent winner would change results.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from peft_eval import hookspecs
from peft_eval.errors import PluginError, unknown_name

if TYPE_CHECKING:
    from peft_eval.data.source import DataSource
    from peft_eval.methods.method import Method

ENTRY_POINT_GROUP = "peft_eval"


@functools.cache
def manager() -> pluggy.PluginManager:
    """Returns the plugin manager with every installed plugin loaded.

    Raises:
        PluginError: a plugin fails to import or implements a hook that does not exist.
    """
    plugins = pluggy.PluginManager("peft_eval")
    plugins.add_hookspecs(hookspecs)
    try:
        plugins.load_setuptools_entrypoints(ENTRY_POINT_GROUP)
        plugins.check_pending()
    except (ImportError, pluggy.PluginValidationError) as error:
        raise PluginError(f"a plugin could not be loaded: {error}", remedy="update or uninstall it") from error
    return plugins


def _package_of(plugin: Any) -> str:
    for known, distribution in manager().list_plugin_distinfo():
        if known is plugin:
            return f"{distribution.project_name} {version(distribution.project_name)}"
    return getattr(plugin, "__name__", repr(plugin))


def _named(hook: str, kind: str, name_of: Callable[[Any], str]) -> dict[str, Any]:
    implementations = getattr(manager().hook, hook).get_hookimpls()
    return dict(_collected(kind, name_of, tuple((one.function, one.plugin) for one in implementations)))


@functools.lru_cache(maxsize=16)
def _collected(
    kind: str, name_of: Callable[[Any], str], implementations: tuple[tuple[Callable[[], Iterable[Any]], Any], ...]
) -> dict[str, Any]:
    """Returns what the implementations of a hook offer, by name; asked once for the same plugins."""
    found: dict[str, tuple[Any, str]] = {}
    for function, plugin in implementations:
        package = _package_of(plugin)
        for item in function():
            name = name_of(item)
            if name in found:
                raise PluginError(
                    f"{kind} {name!r} comes from both {found[name][1]} and {package}",
                    remedy="uninstall one of them, or ask its author to rename it",
                )
            found[name] = (item, package)
    return {name: item for name, (item, _) in sorted(found.items())}


def _own_name(item: Any) -> str:
    return str(item.name)


def _folder_name(folder: Any) -> str:
    return Path(folder).name


class MethodTable(dict[str, "Method"]):
    """The methods by name; a name that a plugin can make a method of (`lora+pfeiffer`) is found, but not listed."""

    def __contains__(self, name: object) -> bool:
        """Returns whether there is, or can be made, a method of that name."""
        return super().__contains__(name) or self._made(str(name)) is not None

    def __missing__(self, name: str) -> Method:
        """Returns the method made of a name that is not listed."""
        made = self._made(name)
        if made is None:
            raise KeyError(name)
        return made

    def _made(self, name: str) -> Method | None:
        return manager().hook.peft_eval_method_named(name=name, methods=dict(self))


def methods() -> MethodTable:
    """Returns every method by name."""
    return MethodTable(_named("peft_eval_methods", "method", _own_name))


def datasets() -> dict[str, DataSource]:
    """Returns every data source by name."""
    return _named("peft_eval_datasets", "data source", _own_name)


def suites() -> dict[str, Path]:
    """Returns every suite's folder by the folder's name."""
    return _named("peft_eval_suites", "suite", _folder_name)


def pick(kind: str, name: str, known: dict[str, Any], *, place: str | None = None) -> Any:
    """Returns `known[name]`.

    Raises:
        ConfigError: there is no such name; near matches are listed.
    """
    if name not in known:
        raise unknown_name(kind, name, known, place=place)
    return known[name]


def plugin_versions() -> Iterable[str]:
    """Returns `package version` of each installed plugin, for results and reports."""
    return sorted({_package_of(plugin) for plugin in manager().get_plugins()})
