"""Coverage-guided fuzzing of the readers of strangers' files, with atheris (libFuzzer for Python).

    pip install atheris && python scripts/fuzz.py manifest --minutes 5
    python scripts/fuzz.py all --minutes 3          every reader, one after the other

What makes a reader raise anything but an error for the user ends its run, and is kept as
tests/hostile/findings/READER-HASH.bin: fix it, and the test of that folder keeps it fixed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FINDINGS = ROOT / "tests" / "hostile" / "findings"
sys.path.insert(0, str(ROOT))


def fuzz(name: str, seconds: int) -> None:
    """Fuzzes one reader in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=["peft_eval", "json", "tests.hostile"]):
        from tests.hostile import readers

    place = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    (place / "corpus").mkdir()
    (place / "folder").mkdir()
    (place / "corpus" / "sound").write_bytes(readers.SOUND[name])

    def one(content: bytes) -> None:
        try:
            readers.read(name, content, place / "folder")
        except BaseException:
            FINDINGS.mkdir(exist_ok=True)
            digest = hashlib.sha256(content).hexdigest()[:12]
            (FINDINGS / f"{name}-{digest}.bin").write_bytes(content)
            raise

    words = sorted({word for word in readers.SOUND[name].decode("latin-1").replace('"', " ").split() if len(word) > 2})
    dictionary = place / "words.txt"
    quoted = (re.sub("[^0-9A-Za-z]", lambda sign: f"\\x{ord(sign[0]):02x}", word) for word in words)
    dictionary.write_text("".join(f'"{word}"\n' for word in quoted), encoding="ascii")
    options = [
        f"-max_total_time={seconds}",
        f"-dict={dictionary}",
        "-max_len=8192",
        "-timeout=20",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(place / "corpus")], one)
    atheris.Fuzz()


def main() -> int:
    """Fuzzes one reader, or each in a process of its own; the exit code is 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", help="a reader of tests/hostile/readers.py, or all")
    parser.add_argument("--minutes", type=float, default=3.0, help="for each reader (default: 3)")
    asked = parser.parse_args()
    if asked.reader != "all":
        fuzz(asked.reader, int(asked.minutes * 60))
        return 0
    from tests.hostile.readers import READERS

    found = 0
    for name in READERS:
        command = [sys.executable, __file__, name, "--minutes", str(asked.minutes)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
        runs = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        told = done.stderr.strip().splitlines()[-12:] if done.returncode else []
        print(
            f"{name}: {runs[0].split()[-1] if runs else '?'} inputs, {'nothing found' if not told else 'FOUND'}",
            flush=True,
        )
        print("\n".join(told), flush=True) if told else None
        found += bool(told)
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
