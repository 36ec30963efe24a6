"""What a Python interpreter has to read to run: itself, its standard library, the shared libraries, chosen packages."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from peft_eval.errors import SandboxError

# Folders in which systems keep nothing but libraries: shown whole. Elsewhere (a home, say) only the file itself is.
_SYSTEM = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64")
_QUESTIONS = """
import importlib.util, json, os, sys, sysconfig
def folders(name):
    spec = importlib.util.find_spec(name)
    found = list(spec.submodule_search_locations or ()) if spec else []
    libraries = [folder + ".libs" for folder in found]
    return found + [folder for folder in libraries if os.path.isdir(folder)]
print(json.dumps({
    "binary": os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
    "library": sysconfig.get_path("stdlib"),
    "modules": sysconfig.get_config_var("DESTSHARED"),
    "packages": {name: folders(name) for name in sys.argv[1:]},
}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python as it is seen in a sandbox.

    Attributes:
        binary: the executable, symbolic links resolved.
        readable: files and folders that it needs, besides itself.
        packages: folders of the packages that programs may import.
    """

    binary: Path
    readable: tuple[Path, ...]
    packages: tuple[Path, ...]


@functools.cache
def inspect_interpreter(python: str | None = None, packages: tuple[str, ...] = ()) -> Interpreter:
    """Asks a Python (default: this one) for what it needs; the answer is kept.

    Args:
        python: path of an executable.
        packages: packages that programs may import; those that are not installed are left out.

    Raises:
        SandboxError: it does not run.
    """
    python = python or sys.executable
    try:
        asked = subprocess.run(
            [python, "-I", "-c", _QUESTIONS, *packages], capture_output=True, text=True, check=True, timeout=60
        )
        answer = json.loads(asked.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SandboxError(f"the Python for the sandbox does not run: {error}", place=python) from error
    binary = Path(answer["binary"])
    library, modules = Path(answer["library"]), Path(answer["modules"] or answer["library"])
    standard = [library] if modules.is_relative_to(library) else [library, modules]
    return Interpreter(
        binary=binary,
        readable=(*standard, *_shared_libraries([binary, *modules.glob("*.so")])),
        packages=tuple(Path(folder) for folders in answer["packages"].values() for folder in folders),
    )


def _shared_libraries(binaries: list[Path]) -> list[Path]:
    ldd = shutil.which("ldd")
    if ldd is None:
        return [Path(folder) for folder in _SYSTEM if Path(folder).is_dir()]
    told = subprocess.run([ldd, *map(str, binaries)], capture_output=True, text=True)
    # "\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f...)", and the loader without an arrow.
    files = {word for line in told.stdout.splitlines() if line[:1].isspace() for word in line.split() if word[0] == "/"}
    found = {_shown(Path(file)) for file in files if Path(file).is_file()}
    cache = Path("/etc/ld.so.cache")  # where libraries outside the standard folders are
    return sorted(found | ({cache} if cache.is_file() else set()))


def _shown(file: Path) -> Path:
    return file.parent if any(file.is_relative_to(folder) for folder in _SYSTEM) else file
