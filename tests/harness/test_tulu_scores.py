"""What the TÜLU suites score: gold and empty answers on all real rows, the draws, the means over groups."""

from __future__ import annotations

import importlib.util
import math
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from peft_eval.data import bbh, gsm8k, tydiqa
from peft_eval.data.mmlu.subjects import SUBJECTS
from peft_eval.errors import ConfigError, DataError, PeftEvalError
from peft_eval.harness.baselines import CopyInput
from tests import tulu_files
from tests.tiny import tiny_tokenizer

TULU = Path(__file__).parents[2] / "tasks" / "tulu"


def module(part: str, name: str) -> ModuleType:
    """Imports a suite's module as lm-eval does."""
    spec = importlib.util.spec_from_file_location(f"tulu_{name}", TULU / part / f"{name}.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


GSM, BBH = module("reasoning", "gsm"), module("reasoning", "bbh")
MMLU, TYDIQA = module("knowledge", "mmlu"), module("multilingual", "tydiqa")


class Answers(CopyInput):
    """Answers what a function of the document says."""

    def __init__(self, answer: Callable[[dict], str]):
        super().__init__()
        self._function = answer

    def _answer(self, request: Any) -> str:
        return self._function(request.doc)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Finds likeliest the letter that the function names."""
        return [(float(one.args[1].strip() == self._function(one.doc)), False) for one in requests]


@pytest.mark.parametrize("style", ["cot", "direct"])
def test_gsm8k_on_all_real_rows(shared_data: Path, style: str):
    folder = shared_data / "gsm8k"
    docs = GSM.documents(style=style, gsm8k=str(folder))["test"].to_list()
    problems = gsm8k.read_problems(folder)
    assert len(docs) == len(problems) == 1319
    for doc, problem in zip(docs, problems, strict=True):
        assert GSM.score(doc, [f" {problem.solution}"]) == {"exact_match": 1.0}
        assert GSM.score(doc, [f" So the answer is {problem.result}."]) == {"exact_match": 1.0}
        assert GSM.score(doc, [""]) == {"exact_match": 0.0}
    random.seed(42)
    drawn = random.sample(problems, 200)
    assert [doc["question"] for doc in GSM.documents(style=style, draw=200, gsm8k=str(folder))["test"]] == [
        problem.question for problem in drawn
    ]


@pytest.mark.parametrize("extraction", ["v2", "v1"])
def test_bbh_on_all_real_rows(shared_data: Path, extraction: str):
    folder = str(shared_data / "bbh")
    rows, empty_is_right = 0, {}
    for task in bbh.TASKS:
        docs = BBH.documents(bbh_task=task, style="cot", extraction=extraction, bbh=folder)["test"].to_list()
        rows += len(docs)
        for doc in docs:
            assert BBH.score(doc, [f"Thinking. So the answer is {doc['target']}.\n\nQ: x"]) == {"exact_match": 1.0}
            assert BBH.score(doc, [f" {doc['target']}"]) == {"exact_match": 1.0}
        right = sum(BBH.score(doc, [""])["exact_match"] for doc in docs)
        if right:
            empty_is_right[task] = right
    # The protocol's own floor: of a target of one bracket nothing is left once punctuation is gone.
    assert (rows, empty_is_right) == (6511, {"dyck_languages": 81.0})


def test_bbh_draws_from_one_generator_in_the_order_of_names(tmp_path: Path):
    folder = tulu_files.big_bench_hard(tmp_path / "bbh", examples=50)
    random.seed(42)
    for task in sorted(bbh.TASKS):
        drawn = random.sample([f"Is {n} odd?" for n in range(50)], 40)
        docs = BBH.documents(bbh_task=task, style="cot", draw=40, bbh=str(folder))["test"]
        assert [doc["input"] for doc in docs] == drawn


def test_mmlu_on_all_real_rows(shared_data: Path, tmp_path: Path, tasks_root: Path):
    for ours, theirs in (("test", "test"), ("dev", "dev_header_index_format")):
        (tmp_path / ours).symlink_to(shared_data / "mmlu" / theirs)
    folder = str(tasks_root / "tulu")
    manager = TaskManager(include_path=folder, include_defaults=False, metadata={"mmlu": str(tmp_path)})
    tasks = manager.load(["tulu_mmlu_5shot"])["tasks"]
    scores = []
    for task in tasks.values():
        docs, subject = task.dataset["test"].to_list(), task.config.metadata["mmlu_subject"].replace("_", " ")
        header = f"The following are multiple choice questions (with answers) about  {subject}.\n\n"
        for doc in docs:
            assert doc["shots"] == 5 and doc["prompt"].startswith(header) and doc["prompt"].endswith("\nAnswer:")
            knows, errs = (
                [(-float(n != wanted), False) for n in range(4)] for wanted in (doc["answer"], 3 - doc["answer"])
            )
            scores.append((task.process_results(doc, knows)["acc"], task.process_results(doc, errs)["acc"]))
        assert docs[0]["prompt"].count("\nAnswer:") == 6
    assert (len(tasks), len(scores), set(scores)) == (57, 14_042, {(1.0, 0.0)})


def run(model: Any, name: str, metadata: dict[str, str], tasks_root: Path) -> dict[str, Any]:
    manager = TaskManager(include_path=str(tasks_root), include_defaults=False, metadata=metadata)
    return simple_evaluate(model, tasks=[name], task_manager=manager, bootstrap_iters=100, log_samples=False)["results"]


def test_mmlu_means_are_over_questions(tmp_path: Path, tasks_root: Path):
    folder = tulu_files.mmlu(tmp_path / "mmlu")
    # Astronomy gets a third question, which a model that always says B gets wrong.
    with (folder / "test" / "astronomy_test.csv").open("a", encoding="utf-8") as file:
        file.write("More?,a,b,c,d,C\n")
    results = run(Answers(lambda doc: "B"), "tulu_mmlu_0shot", {"mmlu": str(folder)}, tasks_root)
    assert results["tulu_mmlu_0shot"]["acc,none"] == pytest.approx(57 / 115)
    physics = SUBJECTS["STEM"]["physics"]
    assert results["tulu_mmlu_0shot::stem::physics"]["acc,none"] == pytest.approx(4 / (2 * len(physics) + 1))
    assert results["tulu_mmlu_0shot::stem"]["alias"].strip(" -") == "STEM"
    gold = run(Answers(lambda doc: "ABCD"[doc["answer"]]), "tulu_mmlu_5shot_chat", {"mmlu": str(folder)}, tasks_root)
    assert {row["acc,none"] for row in gold.values() if "acc,none" in row} == {1.0}


def test_bbh_mean_is_over_tasks_with_its_own_standard_error(tmp_path: Path, tasks_root: Path):
    import json

    folder = tulu_files.big_bench_hard(tmp_path / "bbh", examples=60)
    path = folder / "bbh" / "navigate.json"
    path.write_text(
        json.dumps({"examples": [{"input": "x", "target": "No"}] * 10 + [{"input": "x", "target": "?"}] * 2})
    )
    results = run(Answers(lambda doc: " No\n"), "tulu_bbh_direct_full", {"bbh": str(folder)}, tasks_root)
    assert results["tulu_bbh_direct_full::navigate"]["exact_match,none"] == pytest.approx(10 / 12)
    assert results["tulu_bbh_direct_full"]["exact_match,none"] == pytest.approx((26 * 0.5 + 10 / 12) / 27)
    variances = [0.25 / 59] * 26 + [10 / 12 * 2 / 12 / 11]
    assert results["tulu_bbh_direct_full"]["exact_match_stderr,none"] == pytest.approx(math.sqrt(sum(variances)) / 27)


@pytest.mark.parametrize("name", ["tulu_tydiqa_gp", "tulu_tydiqa_cb_chat"])
def test_tydiqa_gold_and_empty(tmp_path: Path, tasks_root: Path, name: str):
    metadata = {"tydiqa": str(tulu_files.tydiqa_official(tmp_path / "tydiqa", train=3, dev=101))}
    gold = run(Answers(lambda doc: f" {doc['answers'][-1]}\n"), name, metadata, tasks_root)
    assert len(gold) == 10 and all(row["f1,none"] == row["exact_match,none"] == 1.0 for row in gold.values())
    assert gold[f"{name}::korean"]["sample_len"] == 100
    empty = run(Answers(lambda doc: ""), name, metadata, tasks_root)
    assert all(row["f1,none"] == row["exact_match,none"] == 0.0 for row in empty.values())


def test_tydiqa_draws_questions_and_then_examples(tmp_path: Path):
    folder = tulu_files.tydiqa_official(tmp_path / "tydiqa", train=5, dev=120)
    dev, train = tydiqa.read_part(folder, "dev"), tydiqa.read_part(folder, "train")
    random.seed(42)
    drawn = {
        language: random.sample([one for one in dev if one.language == language], 100) for language in tydiqa.LANGUAGES
    }
    example = {
        language: random.sample([one for one in train if one.language == language], 1)[0]
        for language in tydiqa.LANGUAGES
    }
    for language in tydiqa.LANGUAGES:
        docs = TYDIQA.documents(tydiqa_language=language, passage=True, chat=False, draw=100, tydiqa=str(folder))[
            "test"
        ]
        assert docs["id"][:] == [one.id for one in drawn[language]]
        assert all(f" {example[language].passage}\n" in prompt for prompt in docs["prompt"])


def test_the_drawn_rows_do_not_depend_on_who_drew_before(tmp_path: Path):
    folder = str(tulu_files.gsm8k(tmp_path / "gsm8k", problems=300))
    first = GSM.documents(style="cot", draw=200, gsm8k=folder)["test"]["question"][:]
    random.random()
    assert GSM.documents(style="cot", draw=200, gsm8k=folder)["test"]["question"][:] == first


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer in which an ASCII character is a token, and which puts a BOS before every text."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(folder, vocab=3 + 256, bos=True)
    return folder


def test_mmlu_drops_examples_until_a_prompt_fits(tmp_path: Path, tokenizer: Path):
    from transformers import AutoTokenizer

    folder = tulu_files.mmlu(tmp_path / "mmlu")
    path = folder / "test" / "anatomy_test.csv"
    path.write_text("".join(f"{'x' * length},1,2,3,4,A\n" for length in (10, 1600, 1650, 1700, 1750, 1800, 3000)))
    docs = MMLU.documents(mmlu_subject="anatomy", shots=5, mmlu=str(folder), tokenizer=str(tokenizer))["test"]
    encode = AutoTokenizer.from_pretrained(tokenizer).encode
    for doc in docs:
        length = len(encode(doc["prompt"], add_special_tokens=False))
        assert length <= 2048 or doc["shots"] == 0
        if 0 < doc["shots"] < 5:  # one more would not have fitted
            words = tulu_files.EXAMPLES[doc["shots"]]
            text = words[0] + "".join(f"\n{a}. {b}" for a, b in zip("ABCD", words[1:5], strict=True))
            assert length + len(f"{text}\nAnswer: {words[5]}\n\n") > 2048
    assert docs["shots"][0] == 5 and docs["shots"][-1] == 0 and len(set(docs["shots"])) > 3


def test_tydiqa_cuts_passages(tokenizer: Path):
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    question = tydiqa.Question("korean-1-0", "korean", "y" * 600, "?", ("y",))
    assert TYDIQA.cut_passage(question, loaded).passage == "y" * 511  # and the BOS
    short = tydiqa.Question("korean-1-0", "korean", "y" * 100, "?", ("y",))
    assert TYDIQA.cut_passage(short, loaded) is short


def test_letters_of_v1(tokenizer: Path):
    from transformers import AutoTokenizer

    assert MMLU.letter_texts("v1", AutoTokenizer.from_pretrained(tokenizer)) == ["A", "B", "C", "D"]
    with pytest.raises(ConfigError, match="pass tokenizer=DIR_OR_HUB_ID"):
        MMLU.letter_texts("v1", None)


def test_letters_of_v1_where_every_text_begins_with_a_space():
    """LLaMA's tokenizer makes the same token of "A" at the start and " A" inside."""

    class Llama:
        def encode(self, text: str, add_special_tokens: bool) -> list[str]:
            return f" {text}".replace(" ", "\0▁").split("\0")[1:] if ":" not in text else self._inside(text)

        def _inside(self, text: str) -> list[str]:
            head, _, tail = text.partition(":")
            return [f"▁{head}", ":", *([tail.replace(" ", "▁")] if tail else [])]

    assert MMLU.letter_texts("v1", Llama()) == [" A", " B", " C", " D"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MMLU.documents(mmlu_subject="anatomi", shots=0, mmlu="{folder}"), "did you mean anatomy"),
        (lambda: BBH.documents(bbh_task="navigat", style="cot", bbh="{folder}"), "did you mean navigate"),
        (
            lambda: TYDIQA.documents(tydiqa_language="thai", passage=True, chat=False, draw=1, tydiqa="{folder}"),
            "unknown TyDiQA language 'thai'",
        ),
    ],
)
def test_unknown_names(make: Callable, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tulu_files.mmlu(tmp_path / "data")
    for one in (MMLU, BBH, TYDIQA):
        monkeypatch.setattr(one, "data_folder", lambda *_: folder)
    with pytest.raises(PeftEvalError, match=message):
        make()


def test_missing_tasks_are_all_named(tmp_path: Path):
    folder = tulu_files.big_bench_hard(tmp_path / "bbh")
    for task in ("snarks", "web_of_lies"):
        (folder / "bbh" / f"{task}.json").unlink()
    with pytest.raises(PeftEvalError) as caught:
        BBH.documents(bbh_task="navigate", style="cot", draw=40, bbh=str(folder))
    assert "snarks.json" in str(caught.value) and "web_of_lies.json" in str(caught.value)


def test_missing_data_says_what_to_fetch(tasks_root: Path, tmp_path: Path):
    manager = TaskManager(include_path=str(tasks_root), include_defaults=False, metadata={"gsm8k": str(tmp_path)})
    with pytest.raises(DataError, match="peft-eval data get gsm8k"):
        manager.load(["tulu_gsm_cot"])
