"""`peft-eval train` as a user types it."""

import subprocess
import sys
import tomllib

import pytest
from click.testing import CliRunner

from peft_eval.cli.train import command
from peft_eval.training.spec import spec_fields
from tests.tiny import tiny_llama


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("base"))


def _arguments(base, output, *more: str) -> list[str]:
    settings = "--data mini --tasks 2 --instances-per-task 4 --rank 4 --max-steps 2 --batch-size 4 "
    settings += "--max-source-tokens 256"
    return ["--base", str(base), "--output", str(output), *settings.split(), *more]


def _main(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "peft_eval.cli.main", "train", *arguments], capture_output=True, text=True, check=False
    )


def test_help_has_every_setting_with_its_default_and_examples():
    text = CliRunner().invoke(command, ["--help"], terminal_width=120).output
    names = set(spec_fields()) | {"rank", "alpha", "targets", "dropout", "dora"}
    assert not [name for name in names if f"--{name.replace('_', '-')} " not in text]
    assert "[default: 0.0005]" in text and "d-initial" not in text
    assert "peft-eval train --base" in text and "lm_eval --model vllm" in text
    assert all(field.description for field in spec_fields().values())


@pytest.mark.parametrize("way", ["--method vera", "--method=vera", "--set method=vera", "--config {file}"])
def test_help_has_the_options_of_the_method_that_is_named(way, tmp_path):
    file = tmp_path / "train.toml"
    file.write_text('method = "vera"')
    text = CliRunner().invoke(command, [*way.format(file=file).split(), "--help"], terminal_width=120).output
    assert "Options of --method vera:" in text and "--d-initial" in text and "[default: 0.001]" in text
    assert "--rslora" not in text
    assert "--rank-pattern" not in text  # a table: for files and --set


def test_an_option_of_another_method_names_it(base, tmp_path):
    result = CliRunner().invoke(command, _arguments(base, tmp_path / "out", "--d-initial", "0.2"))
    assert str(result.exception) == "--d-initial: method lora has no such option (it belongs to pvera, vera)"


def test_tables_come_by_set(base, tmp_path):
    more = ("--set", "rank_pattern={q_proj=2}", "--set", "layers_to_transform=[1]", "--dry-run")
    result = CliRunner().invoke(command, _arguments(base, tmp_path / "out", *more), catch_exceptions=False)
    settings = tomllib.loads(result.output)
    assert (settings["rank_pattern"], settings["layers_to_transform"]) == ({"q_proj": 2}, [1])
    config = tmp_path / "train.toml"
    config.write_text(result.output)
    again = CliRunner().invoke(command, ["--config", str(config), "--dry-run"], catch_exceptions=False)
    assert again.output == result.output


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from peft_eval.cli.train import command; command.get_help(command.make_context('train', "
        "['--dry-run'])); print(sorted({'torch', 'transformers', 'peft', 'lm_eval', 'vllm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_dry_run_prints_settings_that_are_a_config(base, tmp_path):
    output = tmp_path / "out"
    result = CliRunner().invoke(command, _arguments(base, output, "--dry-run"), catch_exceptions=False)
    settings = tomllib.loads(result.output)
    assert (settings["rank"], settings["max_steps"], settings["learning_rate"]) == (4, 2, 5e-4)
    assert "8 examples" in result.output and "# steps: 2, 1 epochs of 2 steps" in result.output
    assert not output.exists()
    config = tmp_path / "train.toml"
    config.write_text(result.output)
    again = CliRunner().invoke(command, ["--config", str(config), "--dry-run"], catch_exceptions=False)
    assert again.output == result.output


def test_a_run_is_a_bar_and_a_summary(base, tmp_path):
    done = _main(*_arguments(base, tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("lora on ") and "8 examples, 2 steps" in lines[0]
    assert lines[1].startswith("2 steps (1 epochs), ") and "tokens/s" in lines[1]
    assert lines[2].startswith("loss ")
    assert lines[-1] == f"evaluate it: lm_eval --model vllm --tasks mini_unseen --model_args peft={tmp_path / 'out'}"
    assert len(lines) == 5
    noise = [line for line in done.stderr.replace("\r", "\n").splitlines() if line and not line.startswith("train:")]
    assert not noise


def test_wrong_settings_are_lines_and_exit_code_2(base, tmp_path):
    done = _main(*_arguments(base, tmp_path / "out", "--method", "lorra", "--seed", "x", "--set", "foo=1"))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: --method: unknown method 'lorra' (did you mean lora or olora or lorta?)",
        "error: --set foo: unknown setting 'foo' (known: " + ", ".join(sorted(spec_fields())) + ")",
        "error: --seed: 'x': input should be a valid integer, unable to parse string as an integer",
    ]
    assert not (tmp_path / "out").exists()


def test_an_unknown_option_lists_near_ones(base, tmp_path):
    done = _main(*_arguments(base, tmp_path / "out", "--learning-rat", "1"))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "--learning-rat" in line and "--learning-rate" in line


def test_resume_and_overwrite_exclude_each_other(base, tmp_path):
    result = CliRunner().invoke(command, _arguments(base, tmp_path / "out", "--resume", "--overwrite"))
    assert result.exit_code == 2
    assert "exclude each other" in result.output
