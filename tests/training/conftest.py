"""A tiny base and a spec over the mini corpus, shared by the tests of a training run."""

import pytest

from peft_eval.training.spec import TrainSpec
from tests.tiny import tiny_llama


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny matrices gain nothing from threads, and lose much where tests share the cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("base"), bos=True)


@pytest.fixture
def make_spec(base, tmp_path):
    def make(method="lora", output=None, options=None, **settings):
        if options is None:
            options = {"rank": 4, "dropout": 0.1} if method == "lora" else {}
        settings = {"tasks": 3, "instances_per_task": 8, "max_steps": 6, "batch_size": 6, "micro_batches": 2} | settings
        return TrainSpec(
            base=str(base),
            method=method,
            data="mini",
            output=str(output or tmp_path / "out"),
            options=options,
            max_source_tokens=settings.pop("max_source_tokens", 96),
            max_target_tokens=settings.pop("max_target_tokens", 24),
            **settings,
        )

    return make
