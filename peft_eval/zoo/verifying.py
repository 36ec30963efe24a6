"""Holds a version against what it says of itself: files, base, probe, signature, and on demand a part of its scores."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from peft_eval.checkpoint.hashing import file_sha256, weights_sha256
from peft_eval.checkpoint.location import is_local, resolve_folder
from peft_eval.checkpoint.manifest import Manifest
from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.checkpoint.zoo_index import ZooPlace
from peft_eval.doctor.check import Check
from peft_eval.errors import CheckpointError, PeftEvalError, ProbeError
from peft_eval.zoo.describing import probe_of
from peft_eval.zoo.files import SIGNATURE_NAME, scan
from peft_eval.zoo.records import RECORD_NAME, VersionRecord, read_record
from peft_eval.zoo.scores import Scores, read_scores, scores_by_question
from peft_eval.zoo.unheard import unheard

_FETCH = "remove it and pull or add it again"
# float32 arithmetic on another machine, with another number of threads: far less than this.
_PROBE_TOLERANCE = 1e-3
# Greedy answers of another machine or backend part where two tokens are as likely as each other.
_SAME_ANSWERS = 0.9


def verify(place: ZooPlace, *, questions: int = 0, seed: int = 0, public_key: Path | None = None) -> Iterator[Check]:
    """Yields what was found, one check after another; after damaged files, nothing else is looked at.

    Args:
        place: the version.
        questions: how many questions of its evaluation are asked again.
        seed: of their choice.
        public_key: a key that its signature must be of.
    """
    try:
        record = check_files(place)
        total = sum(file.bytes for file in record.files.values())
        counted = f"{len(record.files)} files, {total:,} bytes"
        yield Check("files", "ok", f"{counted}, hashes as listed; version {record.version}")
        checkpoint = open_checkpoint(str(place.folder))
    except PeftEvalError as error:
        yield _bad("files", error, _FETCH)
        return
    yield Check("checkpoint", "ok", f"{checkpoint.method}, {checkpoint.kind}")
    yield _signature(place, public_key)
    base = _base(record, checkpoint.manifest)
    yield base
    if base.state == "ok" or (base.state == "note" and _is_here(record)):
        yield _probe(place, record)
    if questions:
        yield _scores(place, questions, seed)


def _bad(name: str, error: PeftEvalError, remedy: str) -> Check:
    found = f"{error.place}: {error.problem}" if error.place else error.problem
    return Check(name, "bad", found, error.remedy or remedy)


def check_files(place: ZooPlace) -> VersionRecord:
    """Holds a version's files against their listed hashes.

    Returns:
        The version's record.

    Raises:
        CheckpointError: a file is missing, superfluous or another one.
    """
    record = read_record(place.folder)
    if record is None:
        raise CheckpointError(f"there is no {RECORD_NAME}", place=str(place.folder))
    if (record.name, record.version) != (place.name, place.version):
        raise CheckpointError(
            f"the index says {place.name}@{place.version}, the files say {record.name}@{record.version}",
            place=str(place.folder),
        )
    there = {*scan(place.folder).names}
    if differing := sorted(there ^ set(record.files)):
        raise CheckpointError(f"not listed, or listed and gone: {', '.join(differing[:5])}", place=str(place.folder))
    for name, file in record.files.items():
        if (place.folder / name).stat().st_size != file.bytes or file_sha256(place.folder / name) != file.sha256:
            raise CheckpointError(f"{name} is not the file that was added", place=str(place.folder))
    return record


def _signature(place: ZooPlace, public_key: Path | None) -> Check:
    signed = (place.folder / SIGNATURE_NAME).is_file()
    if public_key is None:
        return Check("signature", "note", "there is one, not checked: --public-key FILE" if signed else "none")
    if not signed:
        return Check("signature", "bad", "there is none", "ask its author, or verify without --public-key")
    from peft_eval.zoo.signing import check_signature

    try:
        check_signature(place.folder, public_key)
    except PeftEvalError as error:
        return _bad("signature", error, _FETCH)
    return Check("signature", "ok", f"made with the key of {public_key}")


def _is_here(record: VersionRecord) -> bool:
    return record.about.base is not None and is_local(record.about.base)


def _base(record: VersionRecord, manifest: Manifest | None) -> Check:
    about = record.about
    if about.kind == "full":
        return Check("base", "ok", "none needed: full weights")
    if about.base is None or not _is_here(record):
        return Check(
            "base", "note", f"{about.base or 'unknown'}: not on this machine, so neither it nor the probe is checked"
        )
    try:
        found = weights_sha256(resolve_folder(about.base, revision=about.base_revision))
    except PeftEvalError as error:
        return _bad("base", error, "pull the base")
    if about.base_sha256 not in (None, found):
        return Check(
            "base", "bad", f"{about.base} has weights {str(found)[:12]}, not {about.base_sha256[:12]}", "pull it"
        )
    line = f"{about.base}, weights {str(found)[:12]}"
    if manifest is None or manifest.base.weights_sha256 != found:
        named = " as named when it was added" if about.base_sha256 else ""
        return Check("base", "note", f"{line}{named}; which it was trained on, the checkpoint does not say")
    return Check("base", "ok", f"{line} as trained on")


def _probe(place: ZooPlace, record: VersionRecord) -> Check:
    if record.about.kind == "full":
        return Check("probe", "note", "full weights: their hashes say all")
    try:
        found = probe_of(place.folder, record.about)
    except ProbeError as error:
        return _bad("probe", error, "do not use it")
    except PeftEvalError as error:
        return _bad("probe", error, "see peft-eval doctor")
    if found is None:
        return Check("probe", "note", "not replayed")
    told = record.about.probe
    moved = f"logits move by {found.mean:.4g} on average, {found.largest:.4g} at most"
    if told is None:
        return Check("probe", "note", f"{moved}; none was recorded to compare with")
    if found.dtype == told.dtype and abs(found.mean - told.mean) > _PROBE_TOLERANCE * max(told.mean, found.mean):
        return Check("probe", "bad", f"{moved}; recorded: {told.mean:.4g}, {told.largest:.4g}", "do not trust it")
    return Check("probe", "ok", f"{moved}, as recorded")


def _scores(place: ZooPlace, count: int, seed: int) -> Check:
    try:
        told = read_scores(place.folder)
        if told is None:
            return Check("scores", "bad", "none are stored", "add it with --scores RESULTS")
        same, differing = asked_again(place, told, count, seed)
    except PeftEvalError as error:
        return _bad("scores", error, "see peft-eval doctor")
    asked = same + len(differing)
    line = f"{same} of {asked} questions score as recorded (seed {seed})"
    if same < _SAME_ANSWERS * asked:
        return Check("scores", "bad", f"{line}; not {', '.join(differing[:3])}", "do not trust its scores")
    return Check("scores", "ok", line)


def asked_again(place: ZooPlace, told: Scores, count: int, seed: int) -> tuple[int, list[str]]:
    """Asks some questions of an evaluation again, with transformers in float32.

    Returns:
        How many scored as recorded, and those that did not, as `task:number`.

    Raises:
        DataError: the tasks' questions are not those that were asked.
    """
    from peft_eval.harness.command import lm_eval_arguments
    from peft_eval.harness.extensions import extend_all
    from peft_eval.harness.many import quiet_logs, run_quietly

    known = [(task, number) for task, asked in told.questions.items() for number in range(len(asked.hashes))]
    chosen: dict[str, list[int]] = {}
    for task, number in sorted(random.Random(seed).sample(known, min(count, len(known)))):
        chosen.setdefault(task, []).append(number)
    quiet_logs()
    extend_all()
    with tempfile.TemporaryDirectory() as output:
        arguments = lm_eval_arguments(
            model="hf",
            tasks=",".join(chosen),
            checkpoint=str(place.folder),
            model_args=["dtype=float32"],
            metadata=[],
            output=Path(output),
            more=["--samples", json.dumps(chosen)],
        )
        with unheard():
            run_quietly(arguments)
        found = scores_by_question(Path(output))
    same, differing = 0, []
    for task, numbers in chosen.items():
        for number in numbers:
            digest, values = found[task, number]
            asked = told.questions[task]
            recorded = {metric: scores[number] for metric, scores in asked.scores.items()}
            if digest != asked.hashes[number]:
                raise CheckpointError(
                    f"{task}: question {number} is another one here", remedy="update the data or peft-eval"
                )
            matches = all(abs(values.get(metric, -1.0) - value) < 1e-4 for metric, value in recorded.items())
            same += matches
            differing += [] if matches else [f"{task}:{number}"]
    return same, differing
