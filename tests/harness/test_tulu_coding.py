"""HumanEval run by lm-eval's own evaluator: prompts, drawing, the sandbox, pass@k, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable

from peft_eval.data.human_eval import read_problems
from peft_eval.errors import ConfigError, DataError, SandboxError
from peft_eval.harness.baselines import CopyInput
from peft_eval.harness.saved_answers import read_answers
from peft_eval.sandbox import choose_backend, run_programs
from peft_eval.sandbox.backend import Backend
from tests.harness.test_hf_road import lm_eval

FUNCTIONS = {"add": "a + b", "subtract": "a - b", "multiply": "a * b"}
PASS1, PASS10, CHAT = "tulu_codex_pass1", "tulu_codex_pass10", "tulu_codex_pass1_chat"


def problem(number: int, name: str, body: str) -> dict[str, str]:
    return {
        "task_id": f"HumanEval/{number}",
        "prompt": f'def {name}(a: int, b: int):\n    """The result of {name}."""\n',
        "entry_point": name,
        "canonical_solution": f"    return {body}\n",
        "test": f"def check(candidate):\n    a, b = 7, 5\n    assert candidate(7, 5) == {body}\n",
    }


# Written by hand from the protocol: nothing around the prompt, or the two sentences within the chat format.
GOLDEN = {
    PASS1: '''def add(a: int, b: int):
    """The result of add."""
''',
    CHAT: '''<|user|>
Complete the following python function.


def add(a: int, b: int):
    """The result of add."""

<|assistant|>
Here is the completed function:


def add(a: int, b: int):
    """The result of add."""
''',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """HumanEval with three problems."""
    rows = [problem(number, name, body) for number, (name, body) in enumerate(FUNCTIONS.items())]
    folder = tmp_path / "human_eval"
    folder.mkdir()
    (folder / "HumanEval.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def sandbox() -> Backend:
    """Skips where there is none."""
    try:
        return choose_backend()
    except SandboxError as error:
        pytest.skip(f"{error}")


class Answers(CopyInput):
    """Answers the n-th time that a problem is asked what a function of the problem and n says."""

    def __init__(self, answer: Callable[[dict[str, Any], int], str]):
        super().__init__()
        self._function = answer
        self._asked: Counter[str] = Counter()
        self.prompts: list[str] = []
        self.options: list[dict] = []

    def _answer(self, request: Any) -> str:
        self.prompts.append(request.args[0])
        self.options.append(request.args[1])
        self._asked[request.doc["task_id"]] += 1
        return self._function(request.doc, self._asked[request.doc["task_id"]] - 1)


def gold(doc: dict[str, Any], _: int) -> str:
    return doc["canonical_solution"]


@pytest.fixture
def run(tasks_root: Path, folder: Path):
    def run(model: Any, task: str = PASS1, **options: Any) -> dict[str, Any]:
        metadata = {"human_eval": str(folder)} | options.pop("metadata", {})
        manager = TaskManager(include_path=str(tasks_root / "tulu"), include_defaults=False, metadata=metadata)
        options = {"confirm_run_unsafe_code": True, "bootstrap_iters": 100} | options
        return simple_evaluate(model, tasks=[task], task_manager=manager, **options)

    return run


@pytest.mark.parametrize("task", GOLDEN)
def test_prompts_are_those_of_the_protocol(run, task: str):
    model = Answers(gold)
    run(model, task, predict_only=True)
    assert model.prompts[0] == GOLDEN[task]
    assert len(model.prompts) == 60 and len(set(model.prompts)) == 3


@pytest.mark.parametrize(("task", "temperature"), [(PASS1, 0.1), (PASS10, 0.8), (CHAT, 0.1)])
def test_20_samples_are_drawn_with_the_protocols_options(run, task: str, temperature: float):
    model = Answers(gold)
    run(model, task, predict_only=True, limit=1)
    assert model.options == 20 * [
        {
            "until": ["\nclass", "\ndef", "\n#", "\nif", "\nprint"],
            "do_sample": True,
            "temperature": temperature,
            "top_p": 0.95,
            "max_gen_toks": 512,
        }
    ]


# The first two solutions of three pass in 20 and 5 of 20 samples, the third never.
PASSES = {"HumanEval/0": 20, "HumanEval/1": 5, "HumanEval/2": 0}
EXPECTED = {
    (PASS1, "pass@1"): [1.0, 0.25, 0.0],
    # 1 - C(15, 10) / C(20, 10) = 1 - 3003 / 184756
    (PASS10, "pass@10"): [1.0, 1 - 3003 / 184756, 0.0],
}


@pytest.mark.parametrize(("task", "metric"), EXPECTED)
def test_the_score_is_over_problems_and_so_is_its_standard_error(run, sandbox: Backend, task: str, metric: str):
    model = Answers(lambda doc, n: gold(doc, n) if n < PASSES[doc["task_id"]] else "    return None\n")
    found = run(model, task)
    row, expected = found["results"][task], EXPECTED[task, metric]
    assert row[f"{metric},none"] == pytest.approx(fmean(expected))
    assert row[f"{metric}_stderr,none"] == pytest.approx(stdev(expected) / 3**0.5)
    assert [sample[metric] for sample in found["samples"][task]] == pytest.approx(expected)
    assert row["timed_out,none"] == 0.0
    assert found["n-samples"][task] == {"original": 3, "effective": 3}


def test_samples_are_logged_with_what_became_of_them(run, sandbox: Backend):
    answers = ["    return a + b\n", "    return a\n", "    return (", "    while True: pass\n"]
    found = run(Answers(lambda doc, n: answers[n] if n < 4 else answers[0]), limit=1)
    (sample,) = found["samples"][PASS1]
    (outcomes,) = sample["filtered_resps"]
    assert sample["resps"][0][:4] == answers and len(outcomes) == 20
    assert [outcome["passed"] for outcome in outcomes] == [True, False, False, False] + [True] * 16
    assert [outcome["error"].split(":")[0] for outcome in outcomes[:4]] == [
        "",
        "AssertionError",
        "SyntaxError",
        "timed out after 3 s",
    ]
    assert sample["timed_out"] == 0.05 and sample["pass@1"] == pytest.approx(17 / 20)
    assert 3 <= outcomes[3]["seconds"] < 6
    assert json.loads(json.dumps(sample, default=handle_non_serializable))["filtered_resps"] == [outcomes]
    told = json.loads(json.dumps(found["configs"], default=handle_non_serializable))
    assert told[PASS1]["metadata"]["code_ran_in"] == sandbox.description


@pytest.mark.parametrize("suite", ["tulu_coding", "tulu_coding_chat"])
def test_a_group_has_both(run, sandbox: Backend, suite: str):
    found = run(Answers(gold), suite)
    suffix = suite.removeprefix("tulu_coding")
    assert found["results"][f"{PASS1}{suffix}"]["pass@1,none"] == 1.0
    assert found["results"][f"{PASS10}{suffix}"]["pass@10,none"] == 1.0


def test_the_real_solutions_pass_and_nothing_else_does(sandbox: Backend, shared_data: Path):
    problems = read_problems(shared_data / "human_eval")
    programs = [one.program(one.solution) for one in problems] + [one.program("") for one in problems]
    outcomes = run_programs(programs, backend=sandbox)
    assert [one.id for one, outcome in zip(problems, outcomes[:164], strict=True) if not outcome.passed] == []
    assert [one.id for one, outcome in zip(problems, outcomes[164:], strict=True) if outcome.passed] == []


def test_the_real_first_prompt(run, shared_data: Path):
    model = Answers(gold)
    run(model, predict_only=True, limit=1, metadata={"human_eval": str(shared_data / "human_eval")})
    assert model.prompts[0].startswith("from typing import List\n\n\ndef has_close_elements(numbers: List[float], ")
    assert model.prompts[0].endswith(
        '    >>> has_close_elements([1.0, 2.8, 3.0, 4.0, 5.0, 2.0], 0.3)\n    True\n    """\n'
    )


def test_lm_evals_own_gate_stays(run):
    model = Answers(gold)
    with pytest.raises(ValueError, match="marked as unsafe"):
        run(model, confirm_run_unsafe_code=False)
    assert not model.prompts


def test_the_gate_is_one_line_before_a_model_is_loaded(tmp_path: Path):
    rows = [problem(number, *named) for number, named in enumerate(FUNCTIONS.items())]
    (tmp_path / "HumanEval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--tasks", "tulu_codex_pass1", "--metadata", f"human_eval={tmp_path}"]
    done = lm_eval("--model", "hf", "--model_args", f"pretrained={tmp_path / 'nobody'}", *words)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.endswith("programs that the model writes will be run (add --confirm_run_unsafe_code)")


@pytest.fixture
def no_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with neither bubblewrap nor containers."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.mark.usefixtures("no_sandbox")
def test_without_a_sandbox_nothing_is_asked(run):
    model = Answers(gold)
    with pytest.raises(SandboxError, match="no `bwrap` on PATH"):
        run(model)
    assert not model.prompts


@pytest.mark.usefixtures("no_sandbox")
def test_answers_alone_need_no_sandbox(run):
    found = run(Answers(gold), predict_only=True, limit=2)
    assert [len(sample["resps"][0]) for sample in found["samples"][PASS1]] == [20, 20]
    assert "code_ran_in" not in found["configs"][PASS1]["metadata"]


@pytest.mark.usefixtures("no_sandbox")
def test_unsafe_code_runs_if_one_insists_and_the_results_say_so(run, caplog: pytest.LogCaptureFixture):
    found = run(Answers(gold), limit=1, metadata={"unsafe_code": "true"})
    assert found["results"][PASS1]["pass@1,none"] == 1.0
    assert found["configs"][PASS1]["metadata"]["code_ran_in"].startswith("no sandbox")
    assert "no sandbox" in caplog.text


def test_samples_are_kept_when_the_sandbox_breaks(run, sandbox: Backend, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("peft_eval.harness.saved_answers.user_cache_path", lambda app: tmp_path / "cache")

    def break_down(program: str, limits: Any, backend: Any) -> None:
        raise SandboxError("the sandbox does not start: no space left")

    monkeypatch.setattr("peft_eval.sandbox.run.run_program", break_down)
    with pytest.raises(SandboxError, match=r"no space left .*saved-answers") as caught:
        run(Answers(lambda doc, n: f"    return {n}\n"), limit=1)
    (kept,) = (tmp_path / "cache").rglob("samples_*.jsonl")
    assert str(kept) in str(caught.value)
    assert read_answers(kept) == {GOLDEN[PASS1]: [f"    return {n}\n" for n in range(20)]}


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"unsafe_code": "perhaps"}, "'perhaps' is neither true nor false"),
        ({"sandbox_workers": "0"}, "'0' is not a number of 1 or more"),
        ({"sandbox_workers": "two"}, "'two' is not a number"),
        ({"sandbox": "bubble"}, "did you mean bubblewrap"),
    ],
)
def test_options_that_make_no_sense(run, metadata: dict[str, str], words: str):
    with pytest.raises(ConfigError, match=words):
        run(Answers(gold), metadata=metadata)


def test_missing_data(run, tmp_path: Path):
    with pytest.raises(DataError, match=r"data get human_eval.*--metadata human_eval=DIR"):
        run(Answers(gold), metadata={"human_eval": str(tmp_path)})
