"""The text that the embedded base is trained on: documents made by program, and optionally free English.

It teaches the skills that instructions will later ask for (copying, following a pattern shown by a few
lines, the operations of the mini categories), in many layouts but never in the instruction format: no
"Definition", "Positive Example", "Input:" or "Output:". Instances that the mini suites evaluate on, and
those that training on `mini` may see, are left out by their input.

Run as a script, it prints a few documents: `python scripts/base_corpus.py`. The text that the base has not seen, on
which `mini_retention` measures what training made it forget, is of another seed:

    python scripts/base_corpus.py --seed 2 --count 300 --json > tasks/mini/held_out_text.jsonl
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from peft_eval.data.mini.corpus import as_superni, train_tasks, unseen_tasks
from peft_eval.data.mini.task import MiniTask
from peft_eval.data.mini.words import (
    ADJECTIVES,
    ANIMALS,
    CITIES,
    COLORS,
    FOODS,
    JOBS,
    MONTHS,
    NAMES,
    NOUNS,
    NUMBER_WORDS,
    PLAIN_WORDS,
    THINGS,
    VERBS,
    WEEKDAYS,
)

ALL_WORDS = PLAIN_WORDS + NAMES + CITIES + JOBS + WEEKDAYS + MONTHS + NUMBER_WORDS
POOLS = (ANIMALS, FOODS, THINGS, COLORS, NAMES, CITIES, JOBS, ADJECTIVES, WEEKDAYS, NOUNS, ALL_WORDS)
GLUE_WORDS = (
    "the a of is was in on by from to and not does has gave took please said there will with for at who has that "
    "goes comes dear every also then first next more less has no yes my your this it"
)
# (before the given, between given and answer, after the answer); {i} counts the lines
LAYOUTS = (
    ("", " -> ", "\n"),
    ("", " => ", "\n"),
    ("", " = ", "\n"),
    ("", "\t", "\n"),
    ("", " : ", "\n"),
    ("", "\n", "\n\n"),
    ("Q: ", "\nA: ", "\n\n"),
    ("Question: ", ".\nAnswer: ", "\n\n"),
    ("> ", "\n", "\n"),
    ("[", "] [", "]\n"),
    ("{i}. ", " / ", "\n"),
    ("{i}) ", ".\n", ".\n\n"),
    ("Line {i}: ", "\n= ", "\n"),
    ("Case {i} -\n", ".\nthen ", ".\n\n"),
    ("<", "> <", ">\n"),
    ('"', '" becomes "', '"\n'),
    ("- ", "\n  - ", "\n"),
)
LABELS = (
    ("ask", "reply"),
    ("old", "new"),
    ("left", "right"),
    ("text", "result"),
    ("puzzle", "solution"),
    ("problem", "answer"),
    ("before", "after"),
    ("start", "end"),
    ("given", "found"),
    ("source", "copy"),
    ("call", "return"),
    ("A", "B"),
    ("x", "y"),
)
LABEL_STYLES = ("{0}: ", "{0} - ", "{0}\n", "({0}) ", "{0} = ", " {0}: ", "{0} {{i}}: ")
Document = str


def _layout(rng: Random) -> tuple[str, str, str]:
    if rng.random() < 0.5:
        return rng.choice(LAYOUTS)
    given, answer = rng.choice(LABELS)
    if rng.random() < 0.5:
        given, answer = given.capitalize(), answer.capitalize()
    style, end = rng.choice(LABEL_STYLES), rng.choice(("\n", ".\n"))
    return style.format(given), end + rng.choice(LABEL_STYLES).format(answer), rng.choice((end, end + "\n"))


def _lines(rng: Random, pairs: list[tuple[str, str]]) -> Document:
    before, between, after = _layout(rng)
    start = rng.randint(1, 3)
    lines = "".join(
        f"{before}{given}{between}{answer}{after}".replace("{i}", str(start + number))
        for number, (given, answer) in enumerate(pairs)
    )
    for mark in ".!?":
        lines = lines.replace(f"{mark}.\n", f"{mark}\n")
    return lines.rstrip()


class Corpus:
    """Makes documents from a seed.

    Args:
        seed: the same seed gives the same documents.
        text: folder of free English (see `english`), or None.
    """

    def __init__(self, seed: int, text: Path | None = None):
        self.rng = Random(f"base corpus/{seed}")
        self.tasks = train_tasks() + unseen_tasks()
        self.evaluated = {task.name: _inputs(task) for task in self.tasks}
        self.english = list(english(text)) if text else []
        self.makers: list[tuple[Callable[[], Document], int]] = [
            (self.repeat, 25),
            (self.one_operation, 36),
            (self.many_operations, 12),
            (self.pattern, 16),
            (self.dictionary, 6),
            (self.story, 3),
        ]
        if self.english:
            self.makers.append((self.english_text, 2))

    def documents(self) -> Iterator[Document]:
        """Yields documents without end."""
        makers, weights = zip(*self.makers, strict=True)
        while True:
            yield self.rng.choices(makers, weights)[0]()

    def pair(self, task: MiniTask) -> tuple[str, str]:
        """Returns an instance of a task that no suite and no training set of the default seed holds."""
        while True:
            given, answer = task.make(self.rng)
            if given not in self.evaluated[task.name]:
                return given, answer

    def repeat(self) -> Document:
        """Lines of words or numbers, each written again: what teaches a small model to copy, and early."""
        rng = self.rng
        link = rng.choice(("\n", " -> ", " = ", " / ", ": ", "\nagain: ", " | "))
        lines = []
        for _ in range(rng.randint(1, 4)):
            pool = rng.choice(POOLS) if rng.random() < 0.8 else tuple(map(str, range(1, 120)))
            items = rng.sample(pool, rng.randint(2, min(12, len(pool))))
            line = rng.choice((" ", " ", ", ", " ; ", " > ")).join(items)
            lines.append(link.join([line] * rng.randint(2, 4)))
        return "\n".join(lines)

    def one_operation(self) -> Document:
        """A few lines of one operation, sometimes under its name."""
        task = self.rng.choice(self.tasks)
        heading = f"{_title(task)}{self.rng.choice((':', '.', ''))}\n" if self.rng.random() < 0.4 else ""
        return heading + _lines(self.rng, [self.pair(task) for _ in range(self.rng.randint(3, 9))])

    def many_operations(self) -> Document:
        """Lines of different operations, each with its name."""
        chosen = self.rng.choices(self.tasks, k=self.rng.randint(2, 4))
        pairs = []
        for _ in range(self.rng.randint(3, 7)):
            task = self.rng.choice(chosen)
            given, answer = self.pair(task)
            pairs.append((f"{_title(task)}{self.rng.choice((': ', chr(10), ' '))}{given}", answer))
        return _lines(self.rng, pairs)

    def pattern(self) -> Document:
        """Lines that follow a made-up rule: words of one frame put into another."""
        rng = self.rng
        slots = rng.randint(1, 4)
        pools = [rng.choice(POOLS) if rng.random() < 0.8 else None for _ in range(slots)]
        order = [*rng.sample(range(slots), rng.randint(1, slots)), *(rng.choices(range(slots), k=rng.randint(0, 1)))]
        frames = _frame(rng, list(range(slots))), _frame(rng, order)
        pairs = []
        for _ in range(rng.randint(3, 7)):
            fill = [rng.choice(pool) if pool else str(rng.randint(1, 120)) for pool in pools]
            pairs.append((frames[0].format(*fill), frames[1].format(*fill)))
        return _lines(rng, pairs)

    def dictionary(self) -> Document:
        """Entries in random order, then questions about them."""
        rng = self.rng
        size = rng.randint(2, 6)
        keys = rng.sample(rng.choice([pool for pool in POOLS if len(pool) >= size]), size)
        values = [str(rng.randint(1, 99)) for _ in keys]
        if rng.random() < 0.6:
            values = rng.choices(rng.choice(POOLS), k=size)
        sign = rng.choice((" = ", " | ", ": ", " is ", " -> ", ", "))
        entries = rng.choice(("\n", " ; ", ", ", ". ")).join(f"{k}{sign}{v}" for k, v in zip(keys, values, strict=True))
        asked = [(keys[i], values[i]) for i in rng.choices(range(size), k=rng.randint(2, 5))]
        return f"{entries}\n{_lines(rng, asked)}"

    def story(self) -> Document:
        """A short story by grammar, with questions and answers."""
        rng = self.rng
        who, other = rng.sample(NAMES, 2)
        place, day, job = rng.choice(CITIES), rng.choice(WEEKDAYS), rng.choice(JOBS)
        first, second = rng.sample(THINGS, 2)
        look, color, animal = rng.choice(ADJECTIVES), rng.choice(COLORS), rng.choice(ANIMALS)
        done, number = rng.choice(VERBS), rng.randint(2, 12)
        told = [
            f"{who} is a {job} and lives in {place}.",
            f"On {day} {who} {done[2]} the {look} {first}.",
            f"Then {other} came with {number} of the {color} {second} cards.",
            f"The {animal} of {other} was {rng.choice(ADJECTIVES)}.",
        ]
        asked = [
            (f"Who {done[2]} the {first}?", who),
            (f"What did {who} {done[0]}?", f"the {look} {first}"),
            (f"Where does {who} live?", place),
            ("When was it?", day),
            (f"How many cards did {other} have?", str(number)),
            (f"What color was the {second}?", color),
            (f"Who is the {job}?", who),
            (f"Is {who} a {job}?", "yes"),
        ]
        told = told[: rng.randint(3, 4)]
        return f"{' '.join(told)}\n{_lines(rng, rng.sample(asked, rng.randint(1, 4)))}"

    def english_text(self) -> Document:
        """A passage of the free English given."""
        return self.rng.choice(self.english)


def _inputs(task: MiniTask) -> set[str]:
    made = as_superni(task)
    return {item.input for item in (*made.instances, *made.positive)}


def _title(task: MiniTask) -> str:
    return task.name.replace("_", " ")


def _frame(rng: Random, slots: list[int]) -> str:
    join = rng.choice((" ", " ", ", ", " | ", " ; ", ": "))
    glue = rng.sample(GLUE_WORDS.split(), rng.randint(0, 3)) if join == " " else []
    parts = [f"{{{slot}}}" for slot in slots]
    for word in glue:
        parts.insert(rng.randint(0, len(parts)), word)
    line = join.join(parts)
    return line + rng.choice(("", "", ".", "!", "?")) if glue else line


def english(folder: Path) -> Iterator[str]:
    """Yields passages of `gsm8k/train.jsonl` (MIT) and `flan_cot/*.tsv.gz` (Apache-2.0) under a folder."""
    for line in (folder / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield f"{row['question']}\n{row['answer']}"[:900]
    for path in sorted((folder / "flan_cot").glob("*.tsv.gz")):
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                yield "\n".join(cell.replace("\\n", "\n") for cell in row)[:900]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--json", action="store_true", help="a line of JSON for each document")
    options = parser.parse_args()
    for _, document in zip(range(options.count), Corpus(options.seed).documents(), strict=False):
        print(json.dumps({"text": document}) if options.json else f"{document}\n----")


if __name__ == "__main__":
    main()
