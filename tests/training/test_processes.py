"""Two processes, as accelerate's launchers start them, train what one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from peft_eval.checkpoint.manifest import Manifest
from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.training.run import train

PROGRAMS = {"ddp": ["-m", "peft_eval.cli.main"], "fsdp": [str(Path(__file__).with_name("train_under_fsdp.py"))]}


@pytest.mark.parametrize("way", PROGRAMS)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_two_processes_train_what_one_does(method, way, make_spec, tmp_path):
    # 24 examples, 5 a step: shares are uneven, and an epoch's last step has but 4
    options = {"rank": 4, "dropout": 0.0} if method == "lora" else {}
    spec = make_spec(method, tmp_path / "one", options, learning_rate=1e-2, batch_size=5)
    one = train(spec, say=lambda line: None)
    two = tmp_path / "two"
    flat = spec.flat() | {"output": str(two), "save_every_steps": 2}
    settings = [f"--set={key}={value}" for key, value in flat.items() if value is not None]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launch, *PROGRAMS[way], "train", *settings],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("checkpoint: ") == 1  # one process speaks

    assert open_checkpoint(str(two)).kind == Manifest.read(two).kind
    (ours,) = Path(two).glob("*.safetensors")
    expected, found = load_file(one / ours.name), load_file(ours)
    assert set(found) == set(expected)
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-3, atol=1e-5)
    losses = [dict(Manifest.read(folder).training.losses) for folder in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert not (two / ".training").exists()
