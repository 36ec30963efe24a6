"""Times our ROUGE-L against rouge-score's on real instances, and checks that both give the same numbers.

Run: python scripts/bench_rouge.py DIR   (a Super-NaturalInstructions folder)
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from peft_eval.data.superni.evaluation import evaluation_tasks
from peft_eval.scoring.rouge import stemmed_rouge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    tasks = evaluation_tasks(parser.parse_args().folder.resolve(), "default").tasks.values()
    instances = [instance for category in tasks for task in category for instance in task.instances]

    from rouge_score.rouge_scorer import RougeScorer

    library = RougeScorer(["rougeL"], use_stemmer=True)
    start = time.perf_counter()
    expected = [
        max(library.score(output, instance.input)["rougeL"].fmeasure for output in instance.outputs)
        for instance in instances
    ]
    library_seconds = time.perf_counter() - start
    ours = stemmed_rouge()
    start = time.perf_counter()
    found = [ours.best(instance.outputs, instance.input) for instance in instances]
    seconds = time.perf_counter() - start
    different = sum(a != b for a, b in zip(expected, found, strict=True))
    print(f"{len(instances)} instances: rouge-score {library_seconds:.2f} s, ours {seconds:.2f} s, {different} differ")


if __name__ == "__main__":
    main()
