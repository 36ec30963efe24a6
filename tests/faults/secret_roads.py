"""Walks the roads with secrets in the environment and in an address, for `test_secrets`; everything goes below PLACE.

python -m tests.faults.secret_roads PLACE
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

from peft_eval.cli.main import cli
from tests.faults.processes import finished, preload, started
from tests.faults.roads import ROADS, _Slow, archive, prepare

SECRETS = {
    "HF_TOKEN": "hf_mArKeRone", "OPENAI_API_KEY": "sk-mArKeRtwo", "PEFT_EVAL_JUDGE_KEY": "mArKeRthree",
    "AWS_SECRET_ACCESS_KEY": "mArKeRfour",
}  # fmt: skip
IN_THE_ADDRESS = "mArKeRfive"


def main() -> None:
    """Trains, merges, evaluates, adds to a zoo, runs a study, reports and fetches; what was said is left in files."""
    place = Path(sys.argv[1])
    os.environ.update(SECRETS)
    preload()
    prepare(place)
    for name in ("merge", "eval", "zoo add", "study run"):
        code, said = finished(started(ROADS[name](place).run, place / name))
        (place / f"{name}.said").write_text(f"{code}\n{said}", encoding="utf-8")
    code, said = finished(started(lambda output: report(place, output), place / "report"))
    (place / "report.said").write_text(f"{code}\n{said}", encoding="utf-8")
    for name, path, digest in (("get", "/a", None), ("refused", "/a", "0" * 64), ("nothing", "x/a", None)):
        code, said = finished(started(lambda output: get(output, path, digest), place / name))  # noqa: B023
        (place / f"{name}.said").write_text(f"{code}\n{said}", encoding="utf-8")


def report(place: Path, output: Path) -> None:
    """Writes the report of the study that ran, with its samples and logs."""
    cli.main(["report", str(place / "study.toml"), "--store", str(place / "study run"), "--output", str(output)])


def get(output: Path, path: str, digest: str | None) -> None:
    """Fetches an archive from an address that carries a user name, a password and a query."""
    from peft_eval.cli.main import errors_as_one_line
    from peft_eval.data.fetch import ArchiveSpec, fetch

    _Slow.content, _Slow.seconds = archive(), 0.0
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://user:{IN_THE_ADDRESS}@127.0.0.1:{server.server_port}{path}?token={IN_THE_ADDRESS}"
    known = digest or hashlib.sha256(_Slow.content).hexdigest()
    with errors_as_one_line():
        fetch(ArchiveSpec(url, "c" * 40, known, ("tasks",)), output, check=lambda folder: None)


if __name__ == "__main__":
    main()
