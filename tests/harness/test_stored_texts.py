"""Stored answers with lm-eval's class for transformers: a real model, asked once for each question."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
from lm_eval.api.instance import Instance

from peft_eval.harness.answers import AnswerStore
from peft_eval.harness.extensions import extend_all
from peft_eval.harness.prompts import TokenText
from peft_eval.harness.session import Session, session
from peft_eval.harness.speaker import speaker_in_transformers
from tests.adapters import write_adapter
from tests.tiny import tiny_llama

WORDS = ("one", "the lazy dog", "yes", "no fox", "quick")
GREEDY: dict[str, Any] = {"until": ["\n"], "do_sample": False, "max_gen_toks": 3}
DRAWN = GREEDY | {"do_sample": True, "temperature": 1.0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with session(Session(store=AnswerStore(tmp_path / "answers.sqlite"))) as shared:
        assert shared.store is not None
        yield shared.store


def model(**arguments: Any) -> Any:
    extend_all()
    from peft_eval.harness.hf_model import PeftHFLM

    return PeftHFLM(**{"device": "cpu", "batch_size": 2, **arguments})


def asked(words: tuple[str, ...], settings: dict[str, Any] = GREEDY) -> list[Instance]:
    return [
        Instance("generate_until", {}, (word, settings), place, ("a_task", place, 1))
        for place, word in enumerate(words)
    ]


def counts(one: Any) -> dict[str, Any]:
    return one.get_model_info()["peft_eval"]["prompts"]["a_task"]


def test_a_rerun_with_more_asks_only_what_is_missing_and_answers_alike(base: Path, store: AnswerStore) -> None:
    first = model(pretrained=str(base))
    answers = first.generate_until(asked(WORDS[:3]))
    assert (first.asked, first.remembered) == (3, 0)
    again = model(pretrained=str(base), batch_size=5)
    more = again.generate_until(asked(WORDS))
    assert more[:3] == answers
    assert again.get_model_info()["peft_eval"]["answers"] == {"asked": 2, "remembered": 3}
    with session(Session()):
        alone = model(pretrained=str(base))
        assert alone.generate_until(asked(WORDS)) == more
    assert "answers" not in alone.get_model_info()["peft_eval"]
    assert counts(alone) == counts(again)
    assert counts(alone)["answers_at_length_limit"] > 0


def test_who_is_asked_and_how_make_another_question(base: Path, store: AnswerStore, tmp_path: Path) -> None:
    model(pretrained=str(base)).generate_until(asked(WORDS))
    for seed in (1, 2):
        config = peft.LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"])
        write_adapter(base, tmp_path / f"lora-{seed}", config, scale=0.2, seed=seed)
        adapted = model(peft=str(tmp_path / f"lora-{seed}"))
        adapted.generate_until(asked(WORDS))
        assert (adapted.asked, adapted.remembered) == (5, 0)
    for settings in (GREEDY | {"max_gen_toks": 4}, GREEDY | {"until": []}, DRAWN):
        one = model(pretrained=str(base))
        one.generate_until(asked(WORDS, settings))
        assert one.asked == 5
    other = model(pretrained=str(base), dtype="bfloat16")
    other.generate_until(asked(WORDS))
    assert other.asked == 5
    speakers = [speaker_in_transformers(None, base, {"tokenizer": f"org/{name}"}, other) for name in "ab"]
    assert speakers[0] != speakers[1]
    carried = model(pretrained=str(base))
    carried.generate_until(asked((TokenText("one", [5, 6, 7]), TokenText("one", [5, 6]), "one")))
    assert (carried.asked, carried.remembered) == (2, 1)


def test_drawn_answers_are_told_apart_by_their_turn_and_greedy_ones_asked_once(base: Path, store: AnswerStore) -> None:
    first = model(pretrained=str(base)).generate_until(asked(("one",) * 6, DRAWN))
    assert len(set(first)) > 1
    more = model(pretrained=str(base))
    assert more.generate_until(asked(("one",) * 8, DRAWN))[:6] == first
    assert (more.asked, more.remembered) == (2, 6)
    greedy = model(pretrained=str(base))
    assert len(set(greedy.generate_until(asked(("one",) * 4)))) == 1
    assert (greedy.asked, greedy.remembered) == (1, 3)
    assert counts(greedy)["answers_at_length_limit"] in (0, 4)


def test_what_was_answered_before_the_end_is_there(
    base: Path, store: AnswerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = model(pretrained=str(base))
    generate, batches = type(dying)._model_generate, []

    def two_batches(self: Any, *given: Any, **options: Any) -> Any:
        batches.append(1)
        if len(batches) > 2:
            raise KeyboardInterrupt
        return generate(self, *given, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(dying), "_model_generate", two_batches)
        dying.generate_until(asked(WORDS))
    assert len(store) == 4
    again = model(pretrained=str(base))
    again.generate_until(asked(WORDS))
    assert (again.asked, again.remembered) == (1, 4)


def test_scores_are_stored_as_well(base: Path, store: AnswerStore) -> None:
    pairs = [Instance("loglikelihood", {}, (word, " dog"), 0, ("a_task", 0, 1)) for word in WORDS]
    texts = [Instance("loglikelihood_rolling", {}, (word,), 0, ("a_task", 0, 1)) for word in WORDS]
    first = model(pretrained=str(base))
    scores, rolling = first.loglikelihood(pairs), first.loglikelihood_rolling(texts)
    again = model(pretrained=str(base))
    assert (again.loglikelihood(pairs), again.loglikelihood_rolling(texts)) == (scores, rolling)
    assert (again.asked, again.remembered) == (0, 10)
