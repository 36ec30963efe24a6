"""What a mini task is: a definition in several wordings and a function that makes one instance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

InstanceMaker = Callable[[Random], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class MiniTask:
    """A task made by program.

    Attributes:
        name: unique name, also the file's name without `.json`.
        category: the category it counts to.
        definitions: wordings of one definition; a corpus uses one of them, drawn by its seed.
        make: returns the input and the gold answer of a new instance, from the generator alone.
    """

    name: str
    category: str
    definitions: tuple[str, ...]
    make: InstanceMaker


class Category:
    """Gathers the tasks of a category as their functions are defined.

    Args:
        name: the category's name.
    """

    def __init__(self, name: str):
        self.name = name
        self.tasks: list[MiniTask] = []

    def task(self, *definitions: str) -> Callable[[InstanceMaker], InstanceMaker]:
        """Registers a function as a task of that name, with `definitions` as its wordings."""

        def register(make: InstanceMaker) -> InstanceMaker:
            self.tasks.append(MiniTask(make.__name__, self.name, definitions, make))
            return make

        return register
