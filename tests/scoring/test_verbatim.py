"""What came back word for word is counted up to the first difference."""

import pytest

from peft_eval.scoring.verbatim import verbatim_share

BEGINNINGS = [" quick", " quick brown", " quick brown fox"]


@pytest.mark.parametrize(
    ("generated", "share"),
    [
        (" quick brown fox", 1.0),
        ("quick brown fox jumps", 1.0),  # one backend leaves the first space out; going on is no difference
        (" quick brown dog", 2 / 3),
        (" quickly brown fox", 1 / 3),
        ("the quick brown fox", 0.0),
        ("", 0.0),
    ],
)
def test_tokens_before_the_first_difference(generated: str, share: float):
    assert verbatim_share(generated, BEGINNINGS) == pytest.approx(share)


def test_a_token_that_is_part_of_a_character_waits_for_the_rest():
    beginnings = ["a\ufffd", "aü", "aüb"]
    assert verbatim_share("aüb", beginnings) == 1.0
    assert verbatim_share("aöb", beginnings) == pytest.approx(1 / 3)
