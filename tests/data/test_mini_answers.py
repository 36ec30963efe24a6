"""The mini corpus' gold answers, computed a second time from the input's text alone."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta

import pytest

from peft_eval.data.mini.corpus import as_superni, train_tasks, unseen_tasks
from peft_eval.data.mini.words import ANIMALS, CITIES, COLORS, FOODS

TASKS = {task.name: task for task in train_tasks() + unseen_tasks()}
DAYS = list(calendar.day_name)
A_MONDAY = date(2024, 1, 1)


def _items(text: str) -> list[str]:
    return re.split(r", | ", text)


def _ints(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"\d+", text)]


def _next_day(text: str, ahead: int = 1) -> str:
    day = re.findall("|".join(DAYS), text)[-1]
    return f"{A_MONDAY + timedelta(days=DAYS.index(day) + ahead):%A}"


def _month_before(text: str) -> str:
    first = datetime.strptime(f"{text} 2023", "%d %B %Y").replace(day=1)
    return f"{first - timedelta(days=1):%B}"


def _rows(text: str, sign: str = " | ") -> list[list[str]]:
    return [line.split(sign) for line in text.split("\n") if sign in line]


def _lookup(text: str) -> list[str]:
    return next(row for row in _rows(text) if text.rpartition("? ")[2] in row)


def _passive(text: str) -> str:
    subject, verb, thing = re.fullmatch(r"The (\w+) (\w+) the (\w+)\.", text).groups()
    return f"The {thing} was {verb} by the {subject}."


def _priced(text: str) -> str:
    return min((int(price), thing) for thing, price in re.findall(r"(\w+) (\d+) dollars", text))[1]


def _missing_word(text: str) -> str:
    left, right = text.split(" / ")
    return " ".join(word for word in left.split() if word not in right.split())


def _replaced(text: str) -> str:
    line, old, new = re.fullmatch(r"(.*) ; (\w+) > (\w+)", text).groups()
    return re.sub(rf"\b{old}\b", new, line)


def _swapped(text: str) -> str:
    return re.sub(r"^(\w+)(.*) (\w+)$", r"\3\2 \1", text)


ANSWERS: dict[str, Callable[[str], str]] = {
    "add_two_numbers": lambda text: str(eval(text)),
    "subtract_two_numbers": lambda text: str(eval(text)),
    "multiply_two_numbers": lambda text: str(eval(text)),
    "sum_of_list": lambda text: str(sum(_ints(text))),
    "story_of_adding": lambda text: str(sum(_ints(text))),
    "sort_numbers_up": lambda text: ", ".join(sorted(_items(text), key=int)),
    "sort_numbers_down": lambda text: ", ".join(reversed(sorted(_items(text), key=int))),
    "sort_words": lambda text: " ".join(sorted(text.split())),
    "sort_names_backwards": lambda text: ", ".join(reversed(sorted(_items(text)))),
    "sort_weekdays": lambda text: ", ".join(day for day in DAYS if day in text),
    "reverse_words": lambda text: " ".join(text.split()[::-1]),
    "drop_first_word": lambda text: text.split(" ", 1)[1],
    "drop_last_word": lambda text: text.rsplit(" ", 1)[0],
    "swap_first_and_last": _swapped,
    "replace_word": _replaced,
    "double_each_word": lambda text: re.sub(r"(\w+)", r"\1 \1", text),
    "remove_colors": lambda text: " ".join(word for word in text.split() if word not in COLORS),
    "first_word": lambda text: re.match(r"\w+", text)[0],
    "last_word": lambda text: re.search(r"\w+$", text)[0],
    "words_in_brackets": lambda text: re.search(r"\((.*)\)", text)[1],
    "find_the_animal": lambda text: next(word for word in ANIMALS if word in _items(text)),
    "city_in_sentence": lambda text: next(city for city in CITIES if city in text),
    "odd_or_even": lambda text: "even" if text[-1] in "02468" else "odd",
    "small_or_large": lambda text: "small" if int(text) < 50 else "large",
    "is_in_list": lambda text: "yes" if text.count(f" {text.rpartition(' ')[2]}") == 2 else "no",
    "sorted_or_mixed": lambda text: (
        "sorted" if all(a < b for a, b in zip(_ints(text), _ints(text)[1:], strict=False)) else "mixed"
    ),
    "date_in_words": lambda text: f"{datetime.strptime(text, '%d.%m.%Y'):%-d %B %Y}",
    "date_in_numbers": lambda text: f"{datetime.strptime(text, '%d %B %Y'):%-d.%-m.%Y}",
    "year_of_date": lambda text: str(datetime.strptime(text, "%d %B %Y").year),
    "day_after": _next_day,
    "month_before": _month_before,
    "two_days": lambda text: " and ".join(re.findall("|".join(DAYS), text)),
    "count_words": lambda text: str(text.count(" ") + 1),
    "count_repeats": lambda text: str(text.split().count(text.split()[0]) - 1),
    "count_animals": lambda text: str(len(set(_items(text)) & set(ANIMALS))),
    "count_numbers": lambda text: str(len(_ints(text))),
    "count_before_bar": lambda text: str(text.split().index("|")),
    "join_two_lists": lambda text: text.replace(" | ", ", "),
    "append_item": lambda text: text.replace(" + ", ", "),
    "remove_item": lambda text: ", ".join(w for w in _items(text.split(" - ")[0]) if w != text.split(" - ")[1]),
    "remove_repeats": lambda text: ", ".join(sorted(set(_items(text)), key=_items(text).index)),
    "keep_above_fifty": lambda text: ", ".join(str(number) for number in _ints(text) if number > 50),
    "keep_foods": lambda text: ", ".join(word for word in _items(text) if word in FOODS),
    "move_first_to_end": lambda text: re.sub(r"^(\d+), (.*)$", r"\2, \1", text),
    "active_to_passive": _passive,
    "make_negative": lambda text: re.sub(r"^(\w+) (\w+)s ", r"\1 does not \2 ", text),
    "question_to_statement": lambda text: re.sub(r"^Is (the \w+ \w+) (.*)\?$", r"\1 is \2.", text).replace(
        "the", "The", 1
    ),
    "polite_request": lambda text: re.sub(r"^(\w+), (.*)!$", r"Please \2, \1.", text),
    "larger_number": lambda text: str(max(_ints(text))),
    "smallest_number": lambda text: str(min(_ints(text))),
    "earlier_word": lambda text: sorted(text.split(" or "))[0],
    "cheaper_thing": _priced,
    "older_person": lambda text: max((int(age), name) for name, age in re.findall(r"(\w+) is (\d+)", text))[1],
    "same_or_different": lambda text: "same" if len(set(text.split(" | "))) == 1 else "different",
    "price_of_food": lambda text: re.search(rf"{text.rpartition(' ')[2]} = (\d+)", text)[1],
    "city_of_person": lambda text: _lookup(text)[1],
    "person_with_job": lambda text: _lookup(text)[0],
    "first_column": lambda text: ", ".join(row[0] for row in _rows(text)),
    "whole_row": lambda text: ", ".join(_lookup(text)),
    "next_number": lambda text: str(2 * _ints(text)[-1] - _ints(text)[-2]),
    "next_in_pattern": lambda text: text.split()[-len(set(text.split()))],
    "next_two_days": lambda text: f"{_next_day(text)} {_next_day(text, 2)}",
    "missing_word": _missing_word,
    "way_back": lambda text: " > ".join(text.split(" > ")[::-1]),
}


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_answers_hold_when_computed_again(name: str):
    for instance in as_superni(TASKS[name]).instances:
        assert instance.outputs == (ANSWERS[name](instance.input),), instance.input


def test_most_tasks_are_computed_again():
    assert len(ANSWERS) >= 60
