"""Hostile checkpoints, bases, data files and archives, each made by a function, with the words of its refusal."""

from tests.hostile.corpus import archives, code, data, places, programs, settings, weights  # each registers its cases
from tests.hostile.corpus.cases import CASES, Case

__all__ = ["CASES", "Case", "archives", "code", "data", "places", "programs", "settings", "weights"]
