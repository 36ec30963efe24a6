"""Settings from every place, one winner each, and all errors at once with their places."""

import pytest

from peft_eval.errors import ConfigError, ManyErrors
from peft_eval.training.resolve import from_assignments, from_file, from_options, resolve
from peft_eval.training.spec import TrainSpec

NEEDED = {"base": "b", "data": "mini", "output": "o"}


def _errors(*layers) -> list[str]:
    with pytest.raises((ConfigError, ManyErrors)) as caught:
        resolve(*layers)
    return [str(error) for error in getattr(caught.value, "errors", [caught.value])]


def test_defaults_are_the_papers():
    spec = resolve(from_options(NEEDED))
    assert spec.method == "lora"
    assert (spec.learning_rate, spec.weight_decay, spec.scheduler, spec.warmup_ratio) == (5e-4, 0.01, "linear", 0.03)
    assert (spec.batch_size, spec.epochs, spec.max_steps, spec.seed, spec.encoding) == (16, 4, None, 42, "def")
    assert (spec.max_source_tokens, spec.max_target_tokens, spec.instances_per_task) == (1024, 128, None)
    assert spec.options["dropout"] == 0.1 and spec.options["alpha"] == spec.options["rank"]
    full = resolve(from_options({**NEEDED, "method": "full"}))
    assert (full.learning_rate, full.weight_decay, full.scheduler, full.warmup_ratio) == (1e-5, 0.0, "constant", 0.0)
    assert full.options == {}


def test_an_option_beats_set_beats_the_file_beats_the_default(tmp_path):
    file = tmp_path / "train.toml"
    file.write_text('base = "file"\ndata = "mini"\noutput = "o"\nrank = 1\nseed = 1\nbatch_size = 1\ntargets = ["k"]\n')
    spec = resolve(
        from_options({"rank": "3", "output": None, "packing": None}),
        from_assignments(["rank=2", "seed=2", "dropout = 0.5"]),
        from_file(file),
    )
    assert (spec.options["rank"], spec.seed, spec.batch_size, spec.base) == (3, 2, 1, "file")
    assert spec.options["dropout"] == 0.5
    assert spec.options["targets"] == ["k"]
    assert spec.learning_rate == 5e-4


def test_text_becomes_what_the_field_is():
    spec = resolve(
        from_options({**NEEDED, "learning_rate": "2e-3", "targets": "q_proj, v_proj", "packing": True}),
        from_assignments(["scheduler=cosine", "gradient_checkpointing=true", "base=b"]),
    )
    assert spec.learning_rate == 2e-3
    assert spec.options["targets"] == ["q_proj", "v_proj"]
    assert (spec.packing, spec.scheduler, spec.gradient_checkpointing) == (True, "cosine", True)


def test_max_steps_replaces_the_epochs():
    assert resolve(from_options({**NEEDED, "max_steps": "7"})).epochs is None
    (error,) = _errors(from_options({**NEEDED, "max_steps": "7", "epochs": "1"}))
    assert "epochs and max_steps exclude each other" in error


def test_all_errors_at_once_each_with_its_place(tmp_path):
    file = tmp_path / "train.toml"
    file.write_text("learning_rat = 1\nseed = 'x'\n")
    errors = _errors(
        from_options({"batch_size": "0", "data": "superno:x", "rank": "-2"}),
        from_assignments(["scheduler=lin", "dropout=2"]),
        from_file(file),
    )
    expected = [
        "--data: unknown data source 'superno' (did you mean superni?)",
        f"{file}: learning_rat: unknown setting 'learning_rat' (did you mean learning_rate",
        "--rank: '-2': input should be greater than or equal to 1",
        "--set dropout: 2: input should be less than 1",
        "--base: is required (pass it, or set base in the config)",
        "--output: is required",
        f"{file}: seed: ",
        "--batch-size: '0': input should be greater than or equal to 1",
        "--set scheduler: ",
    ]
    assert len(errors) == len(expected)
    for part in expected:
        assert any(error.startswith(part) for error in errors), (part, errors)


def test_an_unknown_method_lists_near_names_and_does_not_hide_the_rest():
    errors = _errors(from_options({**NEEDED, "method": "lorra", "rank": "4", "seed": "x"}))
    assert errors[0] == "--method: unknown method 'lorra' (did you mean lora or olora or lorta?)"
    assert any(error.startswith("--seed") for error in errors)
    assert not any("rank" in error for error in errors)


def test_an_option_of_another_method():
    (error,) = _errors(from_options({**NEEDED, "method": "full", "rank": "4"}))
    assert error == "--rank: method full has no setting 'rank' (it belongs to adamss, corda, deft, delora, dora, ...)"


def test_files_and_assignments_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        from_file(tmp_path / "missing.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("rank = = 3")
    with pytest.raises(ConfigError, match=r"broken\.toml: not valid TOML"):
        from_file(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        from_file(broken)
    with pytest.raises(ConfigError, match="'rank' is not KEY=VALUE"):
        from_assignments(["rank"])


@pytest.mark.parametrize(
    ("init", "said"),
    [("foo", "'foo' is unknown: use one of default,"), ("loftq", "'loftq' is not offered: trains beside")],
)
def test_inits_that_are_refused_say_why(init, said):
    (error,) = _errors(from_options({**NEEDED, "init": init}))
    assert error.startswith(f"--init: {said}")


def test_the_flat_spec_resolves_to_itself():
    spec = resolve(from_options({**NEEDED, "rank": "8", "max_steps": "3"}))
    again = resolve(from_options(spec.flat()))
    assert again == spec
    assert isinstance(again, TrainSpec)
    assert set(spec.flat()) - set(spec.decisive()) == {"output", "save_every_steps", "keep_checkpoints"}
