"""The official scores of Super-NaturalInstructions, on their 0 to 100 scale.

Source: allenai/natural-instructions, eval/automatic/evaluation.py at 8540acd (the same numbers as Tk-Instruct's
src/compute_metrics.py, which says which of the two metrics is a category's headline).
"""

from __future__ import annotations

from collections.abc import Sequence

from peft_eval.scoring.rouge import RougeL
from peft_eval.scoring.text_match import exact_match

HEADLINE_METRICS = {
    "Answerability Classification": "exact_match",
    "Cause Effect Classification": "exact_match",
    "Coreference Resolution": "exact_match",
    "Data to Text": "rougeL",
    "Dialogue Act Recognition": "exact_match",
    "Grammar Error Correction": "rougeL",
    "Keyword Tagging": "rougeL",
    "Overlap Extraction": "rougeL",
    "Question Rewriting": "rougeL",
    "Textual Entailment": "exact_match",
    "Title Generation": "rougeL",
    "Word Analogy": "exact_match",
}


def instance_scores(prediction: str, references: Sequence[str], rouge: RougeL) -> dict[str, float]:
    """Returns an answer's `rougeL` and `exact_match`, 0 to 100, each the best over the references.

    The prediction is stripped, as in the official runs. A reference that has no token left after rouge-score's own
    normalisation (one of only punctuation, or not in Latin script) can score no ROUGE-L, not even against itself.
    """
    answer = prediction.strip()
    return {
        "rougeL": 100.0 * rouge.best(references, answer),
        "exact_match": 100.0 * exact_match(answer, references),
    }
