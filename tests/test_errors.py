"""Errors as the user reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_eval.errors import ConfigError, DataError, ManyErrors, PeftEvalError, raise_all, unknown_name


def test_a_line_has_place_problem_and_remedy():
    assert (
        str(DataError("no field Definition", place="a.json", remedy="add it")) == "a.json: no field Definition (add it)"
    )
    assert str(DataError("no field Definition")) == "no field Definition"


def test_raising_all_of_none_does_nothing():
    raise_all([])


def test_raising_all_of_one_raises_it_itself():
    error = ConfigError("one")
    with pytest.raises(ConfigError) as raised:
        raise_all(iter([error]))
    assert raised.value is error


@given(st.lists(st.text(min_size=1, alphabet=st.characters(exclude_categories=["C", "Z"])), min_size=2, max_size=6))
def test_raising_all_of_many_gives_a_line_each(problems: list[str]):
    with pytest.raises(ManyErrors) as raised:
        raise_all(ConfigError(problem) for problem in problems)
    assert str(raised.value).split("\n") == problems
    assert isinstance(raised.value, PeftEvalError) and raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (["lora", "full"], "unknown method 'lroa' (did you mean lora?)"),
        (["zzz", "yyy"], "unknown method 'lroa' (known: yyy, zzz)"),
        ([], "unknown method 'lroa' (none is registered)"),
    ],
)
def test_an_unknown_name_lists_what_there_is(known: list[str], told: str):
    assert str(unknown_name("method", "lroa", known)) == told
