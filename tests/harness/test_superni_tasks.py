"""The suites run by lm-eval's own evaluator: published baselines, gold and empty answers, partial folders."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable, make_table

from peft_eval.data.encoding import ENCODINGS, encode_source
from peft_eval.data.superni.evaluation import evaluation_tasks
from peft_eval.data.superni.tracks import official_test_tasks
from peft_eval.errors import ConfigError, DataError, ManyErrors
from peft_eval.harness.baselines import CopyDemo, CopyInput
from peft_eval.scoring import per_task

# PROTOCOLS C6: rouge-score 0.1.2 over 39 tasks; category: instances, ROUGE-L of copy-input and of copy-demo.
PUBLISHED = {
    "answerability_classification": (300, 0.0978, 50.0),
    "cause_effect_classification": (300, 16.0539, 38.0348),
    "coreference_resolution": (300, 10.5782, 0.0),
    "data_to_text": (300, 27.8305, 13.1718),
    "dialogue_act_recognition": (300, 2.4749, 25.6667),
    "grammar_error_correction": (100, 87.0179, 6.8295),
    "keyword_tagging": (300, 12.7709, 1.0556),
    "overlap_extraction": (100, 10.4483, 0.0),
    "question_rewriting": (600, 63.0876, 12.1189),
    "textual_entailment": (300, 0.7725, 44.3333),
    "title_generation": (700, 11.277, 4.2416),
    "word_analogy": (300, 5.1667, 6.0),
}


class Answers(CopyInput):
    """Answers what a function of the document says."""

    def __init__(self, answer: Any):
        super().__init__()
        self._function = answer
        self.prompts: list[str] = []
        self.options: list[dict] = []

    def _answer(self, request: Any) -> str:
        self.prompts.append(request.args[0])
        self.options.append(request.args[1])
        return self._function(request.doc)


@pytest.fixture
def run(tasks_root: Path):
    def run(model: Any, suite: str, folder: Path | None, **options: Any) -> dict[str, Any]:
        metadata = {"superni": str(folder)} if folder else {}
        metadata |= options.pop("metadata", {})
        manager = TaskManager(include_path=str(tasks_root), include_defaults=False, metadata=metadata)
        return simple_evaluate(model, tasks=[suite], task_manager=manager, **options)

    return run


@pytest.fixture
def partial(tiny_superni) -> Path:
    tiny_superni.add("task1356_xlsum_title_generation", "Title Generation", instances=120)
    tiny_superni.add("task1586_scifact_title_generation", "Title Generation", instances=4)
    tiny_superni.add("task199_mnli_classification", "Textual Entailment", instances=6)
    return tiny_superni.folder


PART = {"superni_partial": "true"}


@pytest.mark.parametrize(
    ("model", "column", "overall"),
    [(CopyInput, 1, (20.0556, 0.4872)), (CopyDemo, 2, (16.5133, 12.2821))],
)
def test_published_baselines(run, shared_data: Path, model: type, column: int, overall: tuple[float, float]) -> None:
    results = run(model(), "superni_unseen", shared_data / "superni", metadata=PART)
    for slug, row in PUBLISHED.items():
        found = results["results"][f"superni_unseen_{slug}"]
        assert found["sample_len"] == row[0]
        assert found["rougeL,none"] == pytest.approx(row[column], abs=5e-5)
    group = results["groups"]["superni_unseen"]
    assert group["sample_len"] == 3900
    assert (group["rougeL,none"], group["exact_match,none"]) == pytest.approx(overall, abs=5e-5)
    assert "superni_unseen (39 of 119 tasks)" in make_table(results)


def test_gold_and_empty_answers(run, shared_data: Path) -> None:
    folder = shared_data / "superni"
    gold = run(Answers(lambda doc: doc["references"][-1]), "superni_unseen_def", folder, metadata=PART)
    group = gold["groups"]["superni_unseen_def"]
    assert (group["rougeL,none"], group["exact_match,none"]) == (100.0, 100.0)
    empty = run(Answers(lambda doc: ""), "superni_unseen_def", folder, metadata=PART)
    group = empty["groups"]["superni_unseen_def"]
    assert (group["rougeL,none"], group["exact_match,none"]) == (0.0, 0.0)


@pytest.mark.parametrize(("suite", "encoding"), [("superni_unseen", "def_pos2"), ("superni_unseen_def", "def")])
def test_prompts_and_generation_options(run, partial: Path, suite: str, encoding: str) -> None:
    model = Answers(lambda doc: "x")
    run(model, suite, partial, metadata=PART)
    expected = [
        encode_source(task, instance.input, ENCODINGS[encoding]).text
        for tasks in evaluation_tasks(partial.resolve(), "default").tasks.values()
        for task in tasks
        for instance in task.instances
    ]
    assert model.prompts == expected
    assert model.options[0] == {"until": [], "do_sample": False, "max_gen_toks": 128}


def test_a_missing_task_is_an_error_that_names_all(run, partial: Path) -> None:
    with pytest.raises(DataError) as caught:
        run(CopyInput(), "superni_unseen", partial)
    message = str(caught.value)
    absent = {name for names in official_test_tasks("default").values() for name in names} - {
        path.stem for path in (partial / "tasks").iterdir()
    }
    assert len(absent) == 116
    assert "116 of the 119 test tasks are missing" in message
    assert all(name in message for name in absent)
    assert "superni_partial=true" in message and "peft-eval data get superni" in message


def test_a_part_of_nothing_is_an_error(run, tiny_superni) -> None:
    tiny_superni.add("task1_made")
    with pytest.raises(DataError, match="none of the 119 test tasks"):
        run(CopyInput(), "superni_unseen", tiny_superni.folder, metadata=PART)


def test_partial_data_is_said_in_table_and_results(run, partial: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        results = run(CopyInput(), "superni_unseen", partial, metadata={"superni_partial": True})
    assert "superni_unseen_word_analogy: the data has no task of this category" in caplog.text
    table = make_table(results)
    assert "superni_unseen (3 of 119 tasks)" in table
    assert "superni_unseen_title_generation (2 of 18 tasks)" in table
    assert "superni_unseen (3 of 119 tasks)" in make_table(results, "groups")
    saved = json.loads(json.dumps(results, default=handle_non_serializable))
    assert saved["groups"]["superni_unseen"]["alias"] == "superni_unseen (3 of 119 tasks)"
    assert saved["configs"]["superni_unseen_word_analogy"]["metadata"]["superni_tasks"] == "0 of 8 tasks"
    assert saved["n-samples"]["superni_unseen_word_analogy"] == {"original": 0, "effective": 0}
    assert saved["n-samples"]["superni_unseen_title_generation"] == {"original": 104, "effective": 104}


def test_group_average_is_over_instances_and_without_the_absent(run, partial: Path) -> None:
    results = run(Answers(lambda doc: "title 0"), "superni_unseen", partial, metadata=PART)
    samples = [sample for task in results["samples"].values() for sample in task]
    group = results["groups"]["superni_unseen"]
    assert group["sample_len"] == len(samples) == 110
    for metric in ("rougeL", "exact_match"):
        assert group[f"{metric},none"] == pytest.approx(sum(sample[metric] for sample in samples) / 110)
        assert group[f"{metric}_stderr,none"] > 0


def test_a_whole_category_runs_alone_and_plain(run, tiny_superni) -> None:
    for name in official_test_tasks("default")["Overlap Extraction"]:
        tiny_superni.add(name, "Overlap Extraction")
    results = run(CopyDemo(), "superni_unseen_overlap_extraction", tiny_superni.folder)
    assert results["results"]["superni_unseen_overlap_extraction"]["alias"] == "superni_unseen_overlap_extraction"
    assert results["results"]["superni_unseen_overlap_extraction"]["sample_len"] == 8


def test_a_whole_track_has_a_plain_name(run, tiny_superni) -> None:
    for category, names in official_test_tasks("default").items():
        for name in names:
            tiny_superni.add(name, category, instances=2)
    results = run(CopyInput(), "superni_unseen", tiny_superni.folder)
    assert str(results["groups"]["superni_unseen"]["alias"]) == "superni_unseen"
    assert results["groups"]["superni_unseen"]["sample_len"] == 238


def test_broken_files_are_reported_together(run, partial: Path) -> None:
    (partial / "tasks" / "task199_mnli_classification.json").write_text("")
    (partial / "tasks" / "task1586_scifact_title_generation.json").write_text("{")
    with pytest.raises(ManyErrors, match=r"task199[^\n]*the file is empty") as caught:
        run(CopyInput(), "superni_unseen", partial, metadata=PART)
    assert "task1586_scifact_title_generation.json: not valid JSON" in str(caught.value)


def test_a_file_of_another_category_is_refused(run, tiny_superni) -> None:
    tiny_superni.add("task199_mnli_classification", "Title Generation")
    with pytest.raises(DataError, match="says 'Title Generation', the official file 'Textual Entailment'"):
        run(CopyInput(), "superni_unseen", tiny_superni.folder, metadata=PART)


def test_data_from_metadata_before_environment(run, partial: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PEFT_EVAL_SUPERNI", str(tmp_path))
    assert run(CopyInput(), "superni_unseen", partial, metadata=PART)["groups"]
    with pytest.raises(DataError, match="from PEFT_EVAL_SUPERNI"):
        run(CopyInput(), "superni_unseen", None, metadata=PART)
    monkeypatch.setenv("PEFT_EVAL_SUPERNI", str(partial))
    assert run(CopyInput(), "superni_unseen", None, metadata=PART)["groups"]
    with pytest.raises(ConfigError, match="superni_partial"):
        run(CopyInput(), "superni_unseen", partial, metadata={"superni_partial": "perhaps"})


def test_cross_lingual(run, shared_data: Path, tiny_superni) -> None:
    tiny_superni.add(
        "task534_farstail_entailment",
        "Textual Entailment",
        Instances=[{"input": "سوال", "output": ["بله"]}, {"input": "دو", "output": ["خیر", "نه"]}],
    )
    with pytest.raises(DataError, match="--metadata gpt2_tokenizer=DIR"):
        run(CopyInput(), "superni_xlingual", tiny_superni.folder, metadata=PART)
    metadata = PART | {"gpt2_tokenizer": str(shared_data / "tokenizers" / "gpt2")}
    gold = Answers(lambda doc: doc["references"][0])
    results = run(gold, "superni_xlingual", tiny_superni.folder, metadata=metadata)
    group = results["groups"]["superni_xlingual"]
    assert (group["rougeL,none"], group["exact_match,none"]) == (100.0, 100.0)
    assert "superni_xlingual (1 of 35 tasks)" in make_table(results)


def test_scores_per_task_from_what_lm_eval_saved(run, partial: Path, tmp_path: Path) -> None:
    tracker = EvaluationTracker(output_path=str(tmp_path / "out"))
    results = run(CopyDemo(), "superni_unseen", partial, metadata=PART, evaluation_tracker=tracker)
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    (folder,) = (tmp_path / "out").iterdir()
    found = per_task.scores(per_task.read_samples(folder))
    assert [(score.name, score.samples) for score in found] == [
        ("task1356_xlsum_title_generation", 100),
        ("task1586_scifact_title_generation", 4),
        ("task199_mnli_classification", 6),
    ]
    by_category = {score.name: score for score in per_task.scores(per_task.read_samples(folder), by="category")}
    table = results["results"]["superni_unseen_title_generation"]
    assert by_category["Title Generation"].headline == pytest.approx(table["rougeL,none"])
    assert by_category["Textual Entailment"].headline == by_category["Textual Entailment"].exact_match


def test_limit_and_predict_only(run, partial: Path) -> None:
    limited = run(CopyInput(), "superni_unseen", partial, metadata=PART, limit=2)
    assert limited["groups"]["superni_unseen"]["sample_len"] == 4
    predicted = run(CopyInput(), "superni_unseen", partial, metadata=PART, predict_only=True)
    assert predicted["samples"]["superni_unseen_title_generation"][0]["filtered_resps"] == [" story number 0 "]


def test_every_category_task_is_written_down(tasks_root: Path) -> None:
    manager = TaskManager(include_path=str(tasks_root), include_defaults=False)
    for suite, track, encoding in (
        ("superni_unseen", "default", "def_pos2"),
        ("superni_unseen_def", "default", "def"),
        ("superni_xlingual", "xlingual", "def_pos2"),
    ):
        categories = official_test_tasks(track)
        members = manager.task_index[suite].cfg["task"]
        options = [manager.task_index[member].cfg["dataset_kwargs"] for member in members]
        assert [option["category"] for option in options] == list(categories)
        assert all(
            option | {"category": ""} == {"group": suite, "track": track, "encoding": encoding, "category": ""}
            for option in options
        )
