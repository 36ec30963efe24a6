"""Many checkpoints in one go: each is a run of lm-eval's own, and all share one engine, the tasks and the answers.

A checkpoint that cannot be evaluated fails in its row, and the others finish. An engine that dies is started once more,
and the answers that it gave are there.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from peft_eval.checkpoint.reading import read_json
from peft_eval.errors import CheckpointError, ConfigError, PeftEvalError, causes
from peft_eval.harness.answers import KEEPS_ANSWERS, AnswerStore
from peft_eval.harness.checkpoint_list import Row, plan
from peft_eval.harness.command import lm_eval_arguments
from peft_eval.harness.found_once import found_once
from peft_eval.harness.session import Session, session
from peft_eval.harness.suites import OF_TRAINING_DATA
from peft_eval.harness.tasks_once import TasksOnce
from peft_eval.serving.live_engine import LiveEngine, engine_kind
from peft_eval.serving.loader import with_route

LOCK_NAME = ".peft_eval.lock"
ERRORS_NAME = "errors.log"
_OF_CHECKPOINTS = ("pretrained", "force_base", "route")


@dataclass(frozen=True)
class Order:
    """What is to be evaluated.

    Attributes:
        checkpoints: references without wildcards.
        tasks, model, model_args, metadata, more: as lm-eval takes them; see `lm_eval_arguments`.
        output: folder for results and samples, one folder in it for each checkpoint.
        with_base: whether each base is a row.
        answers: file of stored answers; None keeps none.
    """

    checkpoints: Sequence[str]
    tasks: str
    output: Path
    model: str = "vllm"
    model_args: Sequence[str] = ()
    metadata: Sequence[str] = ()
    more: Sequence[str] = ()
    with_base: bool = True
    answers: Path | None = None


@dataclass
class Outcome:
    """What became of a row.

    Attributes:
        row: what was evaluated.
        results: lm-eval's results; None if it failed.
        error: why it failed, in one line.
        seconds: what it took.
        notes: what happened on the way, such as an engine that died.
    """

    row: Row
    results: dict[str, Any] | None = None
    error: str | None = None
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def evaluate_many(order: Order, say: Callable[[str], None]) -> list[Outcome]:
    """Evaluates checkpoints in turn.

    Args:
        order: what.
        say: is given a line about each step.

    Returns:
        An outcome for each row, in the order of the rows.

    Raises:
        ConfigError: another run writes into the same folder.
        PeftEvalError: a task does not exist or its data are missing.
    """
    from lm_eval.utils import simple_parse_args_string

    from peft_eval.harness.extensions import extend_all

    extend_all()
    arguments = simple_parse_args_string(",".join(order.model_args))
    with only_run_in(order.output):
        rows = plan(order.checkpoints, arguments, model=order.model, with_base=order.with_base)
        turns = _in_turns(rows, arguments)
        shared = Session(
            engine=LiveEngine(_virtual_rows(rows)) if order.model == "vllm" else None,
            store=AnswerStore(order.answers) if order.answers and order.model in KEEPS_ANSWERS else None,
            tasks=TasksOnce(),
            routes={row.reference: row.route for row in rows if row.route is not None} if order.model == "vllm" else {},
        )
        outcomes = {}
        with session(shared), found_once(order.tasks.split(",")):
            for number, place in enumerate(turns, start=1):
                say(f"[{number}/{len(turns)}] {rows[place].reference}{' (base)' if rows[place].is_base else ''}")
                outcomes[place] = _evaluate(rows[place], order, shared)
                say(f"[{number}/{len(turns)}] {told(outcomes[place])}")
        found = [outcomes[place] for place in range(len(rows))]
        if len(found) > 1 and len({outcome.error for outcome in found}) == 1 and found[0].row.error is not None:
            raise found[0].row.error  # the tasks' fault, or the machine's
        return found


@contextlib.contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Keeps a second run out of an output folder.

    Raises:
        ConfigError: another run is in it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigError("not a folder", place=f"--output {folder}", remedy="name another") from None
    lock = FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            "another run writes into this folder", place=f"--output {folder}", remedy="wait for it, or name another"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _virtual_rows(rows: Sequence[Row]) -> int:
    return max((len(row.route.prompt_ids) for row in rows if row.route is not None), default=0)


def _in_turns(rows: Sequence[Row], arguments: dict[str, Any]) -> list[int]:
    """Returns the rows' places in the order of evaluation: those that can share an engine after each other."""
    kinds: list[Any] = []
    turns: list[tuple[int, int]] = []
    for place, row in enumerate(rows):
        kind: Any = None
        if row.in_vllm and row.folder is not None:
            tokenizer = {"tokenizer": str(row.route.tokenizer_folder)} if row.route is not None else {}
            given = {"model": str(row.folder), "enforce_eager": arguments.get("enforce_eager"), **tokenizer}
            with contextlib.suppress(PeftEvalError, OSError, ValueError):
                kind = engine_kind(with_route(given, row.route.engine if row.route is not None else {}))
        if kind is not None and kind not in kinds:
            kinds.append(kind)
        turns.append((kinds.index(kind) if kind is not None else len(rows), place))
    return [place for _, place in sorted(turns)]


def _evaluate(row: Row, order: Order, shared: Session) -> Outcome:
    """Evaluates one row; whatever goes wrong with it is its outcome."""
    outcome = Outcome(row)
    started = time.perf_counter()
    shared.notes = {}
    if shared.engine is not None and not row.in_vllm:
        shared.engine.close()  # its memory is needed
    while row.error is None:
        try:
            outcome.results = _run(row, order)
        except PeftEvalError as error:
            row.error = error
        except Exception as error:  # one checkpoint's failure, of whatever library, is not the others'
            if engine_died(error) and shared.engine is not None and not outcome.notes:
                outcome.notes.append(f"the engine died ({_line_of(error)}) and was started again")
                shared.notes = {"engine_restarts": list(outcome.notes)}
                shared.engine.close()
                continue
            row.error = PeftEvalError(_line_of(error), remedy=f"see {_written(error, row, order.output)}")
            if engine_died(error) and shared.engine is not None:
                shared.engine.close()
        break
    outcome.error = str(row.error) if row.error is not None else None
    outcome.seconds = time.perf_counter() - started
    return outcome


def _written(error: BaseException, row: Row, output: Path) -> Path:
    """Appends an error's traceback to a file in the output folder."""
    path = output / ERRORS_NAME
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {row.reference}\n")
        file.writelines(traceback.format_exception(error))
    return path


def _run(row: Row, order: Order) -> dict[str, Any]:
    """Runs lm-eval on one checkpoint and returns what it wrote."""
    if row.is_base:
        kept = [one for one in order.model_args if one.partition("=")[0] not in _OF_CHECKPOINTS]
        names: dict[str, Any] = {"checkpoint": None, "model_args": [f"pretrained={row.reference}", *kept]}
    else:
        names = {"checkpoint": row.reference, "model_args": list(order.model_args)}
    arguments = lm_eval_arguments(
        model=order.model,
        tasks=order.tasks,
        metadata=[*order.metadata, *_instances_for(row, order)],
        output=order.output,
        more=order.more,
        **names,
    )
    before = set(order.output.rglob("results_*.json"))
    run_quietly(arguments)
    new = set(order.output.rglob("results_*.json")) - before
    if new:
        newest = max(new, key=lambda path: path.stat().st_mtime_ns)
        try:
            return read_json(newest)
        except CheckpointError:
            newest.unlink()  # cut off: lm-eval warns of a full disk, and goes on
    raise PeftEvalError("lm-eval wrote no results", place=str(order.output), remedy="see its log; is the disk full?")


def _instances_for(row: Row, order: Order) -> list[str]:
    """Returns which checkpoint's training data a base is asked about, where suites are about training data."""
    asked = any(task.strip().startswith(OF_TRAINING_DATA) for task in order.tasks.split(","))
    told = any(one.startswith(("memorization_of=", "train_data=")) for one in order.metadata)
    return [f"memorization_of={row.base_of}"] if row.base_of and asked and not told else []


def run_quietly(arguments: Sequence[str]) -> None:
    """Runs lm-eval's `run` with these arguments, without its table."""
    from lm_eval._cli.harness import HarnessCLI

    parsed = HarnessCLI()._parser.parse_args(list(arguments))  # its own parse_args reads the process's arguments
    with contextlib.redirect_stdout(io.StringIO()):
        parsed.func(parsed)


def engine_died(error: BaseException) -> bool:
    """Tells whether an error means that vLLM's engine is gone."""
    return any(type(one).__name__ in ("EngineDeadError", "EngineGenerateError") for one in causes(error))


def _line_of(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def told(outcome: Outcome) -> str:
    """Returns a line on what became of a row."""
    if outcome.error is not None:
        return f"failed: {outcome.error}"
    block = ((outcome.results or {}).get("config") or {}).get("peft_eval") or {}
    engine, answers = block.get("engine") or {}, block.get("answers") or {}
    parts = [f"done in {outcome.seconds:.1f} s"]
    if engine:
        how = "engine started" if engine["how"] == "start" else "weights swapped"
        why = f" ({engine['reason']})" if engine.get("reason") else ""
        parts.append(f"{how} in {engine['seconds']:.2f} s{why}")
    if answers:
        parts.append(f"{answers['asked']:,} asked, {answers['remembered']:,} remembered")
    return "; ".join([*parts, *outcome.notes])


def quiet_logs() -> None:
    """Lets lm-eval and vLLM speak of what is wrong only, unless the user chose otherwise."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("LMEVAL_LOG_LEVEL", "WARNING")
    logging.getLogger("lm_eval").setLevel(os.environ["LMEVAL_LOG_LEVEL"])
