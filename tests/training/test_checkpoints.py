"""Checkpoints on the way: each what a run that ends there writes, and the run goes on as if none were kept."""

import pytest
import torch
from safetensors.torch import load_file

from peft_eval.checkpoint.manifest import Manifest
from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.training.run import train
from peft_eval.training.states import kept_checkpoints

SILENT = {"say": lambda line: None}
STEADY = {"scheduler": "constant", "warmup_ratio": 0.0, "epochs": None, "max_steps": 4}


def weights_of(folder):
    return {name: weight for file in folder.glob("*.safetensors") for name, weight in load_file(str(file)).items()}


def same(first, second):
    first, second = weights_of(first), weights_of(second)
    return first.keys() == second.keys() and all(torch.equal(weight, second[name]) for name, weight in first.items())


@pytest.mark.parametrize("method", ["lora", "pissa", "full", "prefix"])
def test_a_kept_checkpoint_is_that_of_a_shorter_run(method, make_spec, tmp_path):
    spec = make_spec(method=method, **STEADY, output=tmp_path / "long", keep_checkpoints=3)
    long = train(spec, **SILENT)
    kept = kept_checkpoints(long)
    assert list(kept) == [1, 2, 3]
    assert open_checkpoint(str(kept[2])).manifest.training.steps == 2
    assert [step for step, _ in Manifest.read(kept[2]).training.losses] == [1, 2]
    short = train(make_spec(method=method, **STEADY | {"max_steps": 2}, output=tmp_path / "short"), **SILENT)
    assert same(kept[2], short)
    alone = train(make_spec(method=method, **STEADY, output=tmp_path / "alone"), **SILENT)
    assert same(long, alone) and not same(long, short) and not kept_checkpoints(alone)


def test_a_run_that_begins_anew_removes_what_an_earlier_one_kept(make_spec):
    spec = make_spec(**STEADY, keep_checkpoints=3)
    output = train(spec, **SILENT)
    train(make_spec(**STEADY, keep_checkpoints=1), overwrite=True, **SILENT)
    assert list(kept_checkpoints(output)) == [2]
