"""Writes requirements/cpu.lock and docs/licences.md: every package of this CPU environment.

    python scripts/lock_environment.py            needs uv on the PATH, and the environment that `make env` made

The lock says what was tested: versions, the hashes of their files, and when they were released. To install exactly
that, from any index that has the same files (torch's build for CPUs is on PyTorch's own index of CPU builds):

    pip install --require-hashes --no-deps -r requirements/cpu.lock && pip install --no-deps -e .

What follows the script's name goes to uv, as `--find-links DIR` for torch's build.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from datetime import UTC, date, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "cpu.lock"
LICENCES = ROOT / "docs" / "licences.md"
OVERRIDES = ROOT / "requirements" / "not-for-text.txt"
EXTRAS = ("cpu", "dev")
OLD_DAYS = 730
LOCK_HEADER = """\
# The CPU environment that the tests ran in. Written by scripts/lock_environment.py, which says how to install it.
"""
LICENCES_HEADER = """\
# Licences of what peft-eval runs on

Written by `scripts/lock_environment.py` from the packages' own metadata; the versions are those of
`requirements/cpu.lock`. Bold: what `pyproject.toml` asks for by name; the rest comes with it. "Released" is the day
on which this version came out.

"""

ROUGE = """
Of these, peft-eval itself asks for rouge-score alone: the scorer that published tables were made with, small, and held
against our own faster one by the tests.
"""


def main() -> int:
    """Writes both files."""
    installed = {normal(one.metadata["Name"]): one for one in distributions()}
    installed.pop("peft-eval", None)
    packages = resolved(installed)
    write_lock(packages)
    write_licences(packages, installed)
    return 0


def normal(name: str) -> str:
    """Returns a distribution's name as indices write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def resolved(installed: dict[str, Distribution]) -> list[dict[str, Any]]:
    """Returns what uv resolves the package and its extras to, held to the installed versions."""
    with tempfile.TemporaryDirectory() as scratch:
        constraints, locked = Path(scratch, "constraints.txt"), Path(scratch, "pylock.toml")
        pins = (f"{name}=={one.version}\n" for name, one in sorted(installed.items()))
        constraints.write_text("".join(pins), encoding="utf-8")
        command = [
            "uv", "pip", "compile", "pyproject.toml", *(f"--extra={extra}" for extra in EXTRAS), "--quiet",
            "--override", OVERRIDES, "--constraint", constraints, "--format", "pylock.toml", "--output-file", locked,
            "--python-version", ".".join(map(str, sys.version_info[:2])), *sys.argv[1:],
        ]  # fmt: skip
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        packages: list[dict[str, Any]] = tomllib.loads(locked.read_text(encoding="utf-8"))["packages"]
    return sorted(packages, key=lambda package: package["name"])


def files_of(package: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns a package's files: wheels, and its source where there is one."""
    return [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]


def released(package: dict[str, Any]) -> date | None:
    """Returns the day on which a package's first file came out, None for one that no index dates."""
    days = [file["upload-time"].date() for file in files_of(package) if "upload-time" in file]
    return min(days, default=None)


def write_lock(packages: list[dict[str, Any]]) -> None:
    """Writes names, versions and hashes as pip reads them."""
    entries = []
    for package in packages:
        hashes = sorted({file["hashes"]["sha256"] for file in files_of(package)})
        lines = [f"{package['name']}=={package['version']}", *(f"--hash=sha256:{digest}" for digest in hashes)]
        entries.append(" \\\n    ".join(lines) + "\n")
    LOCK.write_text(LOCK_HEADER + "".join(entries), encoding="utf-8")
    print(f"{LOCK}: {len(packages)} packages")


def write_licences(packages: list[dict[str, Any]], installed: dict[str, Distribution]) -> None:
    """Writes the table of licences, and which packages had no release for two years."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    named = {normal(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for line in asked}
    rows, old = [], []
    for package in packages:
        name, day = package["name"], released(package)
        found = installed.get(name)
        shown = f"**{name}**" if name in named else name
        rows.append(f"| {shown} | {package['version']} | {licence(found)} | {day or 'not told'} |\n")
        if day and (datetime.now(UTC).date() - day).days > OLD_DAYS:
            old.append(f"{shown} {package['version']} ({day})")
    text = "| package | version | licence | released |\n|---|---|---|---|\n" + "".join(rows)
    text += f"\n## Without a release for two years\n\n{', '.join(old) or 'None'}.\n{ROUGE}"
    LICENCES.write_text(LICENCES_HEADER + text, encoding="utf-8")
    print(f"{LICENCES}: {len(old)} without a release for two years")


def licence(one: Distribution | None) -> str:
    """Returns a distribution's licence: the SPDX expression, else its classifiers, else its short text."""
    if one is None:
        return "not installed here"
    if expression := one.metadata.get("License-Expression"):
        return expression
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in one.metadata.get_all("Classifier") or []
        if line.startswith("License ::") and not line.endswith("OSI Approved")
    ]
    text = (one.metadata.get("License") or "").strip()
    return ", ".join(classifiers) or (text if 0 < len(text) < 60 and "\n" not in text else "see its files")


if __name__ == "__main__":
    sys.exit(main())
