"""Times our ROUGE-L against rouge-score's, in one process each, and checks that both give the same numbers.

    python scripts/bench_rouge.py DIR [--output bench_rouge.json]

DIR is a Super-NaturalInstructions folder. Each instance of its unseen tasks gets three answers, which are scored
against all its references: its own input, the answer of the task's first example, and that of the next instance.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

from peft_eval.data.superni.evaluation import evaluation_tasks
from peft_eval.data.superni.task import Task
from peft_eval.scoring.rouge import stemmed_rouge

WANTED = 3.0


def answers(task: Task) -> Iterator[tuple[list[str], str]]:
    """Yields the references and an answer, three times for each instance."""
    instances = task.instances
    for instance, following in zip(instances, [*instances[1:], *instances[:1]], strict=True):
        for answer in (instance.input, task.positive[0].output, following.outputs[0]):
            yield list(instance.outputs), answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    tasks = evaluation_tasks(given.folder.resolve(), "default").tasks.values()
    pairs = [pair for category in tasks for task in category for pair in answers(task)]

    from rouge_score.rouge_scorer import RougeScorer

    library = RougeScorer(["rougeL"], use_stemmer=True)
    start = time.perf_counter()
    expected = [
        max(library.score(one, answer)["rougeL"].fmeasure for one in references) for references, answer in pairs
    ]
    peer = time.perf_counter() - start
    ours = stemmed_rouge()
    start = time.perf_counter()
    found = [ours.best(references, answer) for references, answer in pairs]
    seconds = time.perf_counter() - start
    different = sum(a != b for a, b in zip(expected, found, strict=True))
    ratio = peer / seconds
    verdict = "" if ratio >= WANTED and not different else "   BELOW"
    print(
        f"{len(pairs):,} answers: rouge-score {peer:.2f} s, ours {seconds:.2f} s; ratio {ratio:.2f} "
        f"(at least {WANTED}), {different} differ{verdict}"
    )
    if given.output:
        record = {"answers": len(pairs), "ours": seconds, "rouge_score": peer, "ratio": ratio, "different": different}
        given.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
