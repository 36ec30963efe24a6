"""A run that is killed, wherever it is, ends with the very weights of one that was not."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from safetensors import safe_open

from peft_eval.checkpoint.manifest import MANIFEST_NAME, Manifest
from peft_eval.errors import ConfigError
from peft_eval.training.run import train
from peft_eval.training.spec import TrainSpec

# The server imports torch once; every run is forked from it, before torch starts threads.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["peft", "transformers", "peft_eval.training.run", "peft_eval.training.trainer"])


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_while_writing_state(count: int) -> None:
    """Dies when the weights of the `count`-th state are half on the disk."""
    from peft_eval.training import trainer

    real, calls = trainer.AnswerTrainer._save, [0]

    def save(self, output_dir=None, state_dict=None):
        real(self, output_dir, state_dict)
        calls[0] += 1
        if calls[0] == count:
            weights = next(Path(output_dir).glob("*.safetensors"))
            os.truncate(weights, weights.stat().st_size // 2)
            _die()

    trainer.AnswerTrainer._save = save


def _die_before_renaming_state(count: int) -> None:
    from peft_eval.checkpoint import writing

    real, calls = writing.flush_to_disk, [0]

    def flush(folder):
        real(folder)
        calls[0] += 1
        if calls[0] == count:
            _die()

    writing.flush_to_disk = flush


def _die_while_publishing(count: int) -> None:
    """Dies when `count` files of the checkpoint are in place, the manifest is not."""
    real, calls = Path.replace, [0]

    def replace(self, target):
        if self.parent.name == "complete":
            if calls[0] == count:
                _die()
            calls[0] += 1
        return real(self, target)

    Path.replace = replace


def _die_before_manifest(count: int) -> None:
    Manifest.write = lambda self, folder: _die()


def _die_in_step(count: int) -> None:
    import torch

    real, calls = torch.optim.AdamW.step, [0]

    def step(self, closure=None):
        calls[0] += 1
        if calls[0] == count:
            _die()
        return real(self, closure)

    torch.optim.AdamW.step = step


def _work(spec: dict, resume: bool, death, count: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    import torch

    torch.set_num_threads(1)
    if death:
        death(count)
    train(TrainSpec(**spec), resume=resume)


def _run(spec: TrainSpec, *, resume: bool = False, death=None, count: int = 1, timeout: float | None = None) -> int:
    process = PROCESSES.Process(target=_work, args=(spec.model_dump(), resume, death, count))
    process.start()
    process.join(timeout)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    return process.exitcode


def _weights(folder: Path) -> bytes:
    (file,) = folder.glob("*.safetensors")
    return file.read_bytes()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_killed_everywhere_ends_with_the_same_bytes(method, make_spec, tmp_path):
    settings = {"max_steps": 8, "save_every_steps": 2}
    whole = make_spec(method, tmp_path / "whole", **settings)
    assert _run(whole) == 0

    spec = make_spec(method, tmp_path / "killed", **settings)
    output = Path(spec.output)
    deaths = [
        (_die_in_step, 2),  # nothing saved yet
        (_die_while_writing_state, 2),  # step 2 whole, step 4 half-written
        (_die_before_renaming_state, 2),
        (_die_in_step, 3),
        (_die_while_publishing, 0),
        (_die_while_publishing, 1),
        (_die_before_manifest, 1),
    ]
    for number, (death, count) in enumerate(deaths):
        assert _run(spec, resume=number > 0, death=death, count=count) == -signal.SIGKILL
        assert not (output / MANIFEST_NAME).exists()
        assert (output / ".training").is_dir()
    assert _run(spec, resume=True) == 0

    assert _weights(output) == _weights(Path(whole.output))
    ours, reference = Manifest.read(output), Manifest.read(Path(whole.output))
    assert ours.training.losses == reference.training.losses
    assert (ours.training.steps, ours.training.tokens) == (8, reference.training.tokens)
    assert ours.training.seconds > 0
    assert sorted(path.name for path in output.iterdir()) == sorted(
        path.name for path in Path(whole.output).iterdir()
    )  # no state, lock or scratch is left


def test_killed_at_random_moments(make_spec, tmp_path):
    settings = {"max_steps": 60, "save_every_steps": 1}
    whole = make_spec("lora", tmp_path / "whole", **settings)
    assert _run(whole) == 0
    spec = make_spec("lora", tmp_path / "killed", **settings)
    seconds = Manifest.read(Path(whole.output)).training.seconds
    began = False
    for share in (0.9, 0.7, 0.4, None):  # of the time that the steps alone took; some fall into the start-up
        if not (Path(spec.output) / MANIFEST_NAME).is_file():
            code = _run(spec, resume=began, timeout=share and 2 + share * seconds)
            assert code in (0, -signal.SIGKILL)
            began = (Path(spec.output) / ".training" / "run.json").is_file()
    assert _weights(Path(spec.output)) == _weights(Path(whole.output))


@pytest.fixture
def unfinished(make_spec):
    spec = make_spec(max_steps=4, save_every_steps=2)
    assert _run(spec, death=_die_in_step, count=4) == -signal.SIGKILL
    assert (Path(spec.output) / ".training" / "step-2").is_dir()
    return spec


def test_an_unfinished_run_asks_what_to_do(unfinished):
    with pytest.raises(ConfigError, match=r"unfinished run.*--resume.*--overwrite"):
        train(unfinished)


def test_other_settings_are_refused_by_name(unfinished):
    other = unfinished.model_copy(update={"learning_rate": 0.25, "seed": 7})
    with pytest.raises(ConfigError, match=r"learning_rate \(0\.0005 then, 0\.25 now\); seed \(42 then, 7 now\)"):
        train(other, resume=True, say=lambda line: None)
    assert (Path(unfinished.output) / ".training" / "step-2").is_dir()


def test_a_state_with_a_cut_file_is_not_used(unfinished):
    state = Path(unfinished.output) / ".training" / "step-2"
    weights = state / "trained.safetensors"
    os.truncate(weights, weights.stat().st_size - 1)
    lines: list[str] = []
    train(unfinished, resume=True, say=lines.append)
    assert "from step" not in "".join(lines)
    assert (Path(unfinished.output) / MANIFEST_NAME).is_file()


def test_resume_without_a_run(make_spec):
    with pytest.raises(ConfigError, match="no unfinished run"):
        train(make_spec(), resume=True)


def test_resume_of_a_finished_run_only_checks(make_spec):
    spec = make_spec(max_steps=2)
    folder = train(spec, say=lambda line: None)
    before = (folder / MANIFEST_NAME).read_bytes()
    lines: list[str] = []
    train(spec, resume=True, say=lines.append)
    assert "finished already" in lines[-1]
    assert (folder / MANIFEST_NAME).read_bytes() == before
    with pytest.raises(ConfigError, match="max_steps"):
        train(spec.model_copy(update={"max_steps": 3}), resume=True, say=lambda line: None)


def test_states_hold_nothing_that_could_run(unfinished):
    import torch

    state = Path(unfinished.output) / ".training" / "step-2"
    assert not (state / "training_args.bin").exists()
    with safe_open(state / "trained.safetensors", "pt") as weights:
        assert weights.keys()
    torch.load(state / "optimizer.pt", weights_only=True)
    assert json.loads((state / "state.json").read_text())["step"] == 2
