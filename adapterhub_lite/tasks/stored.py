"""Encoded examples kept in a file where their tokens would take too much memory."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from adapterhub_lite.data import spill
from adapterhub_lite.tasks.task import Example

ROOM_OF_A_TOKEN = 40
"""Bytes that an id takes in a list: the list's pointer and the number itself."""


def collected(examples: Iterable[Example]) -> Sequence[Example]:
    """All examples: in a list where their tokens fit into the memory they may take, else in a file.

    Raises:
        StorageError: the disk is full.
    """
    in_memory, room, more = [], spill.ROOM // ROOM_OF_A_TOKEN, iter(examples)
    for example in more:
        in_memory.append(example)
        room -= example.length
        if room < 0:
            return StoredExamples(in_memory, more)
    return in_memory


def reweighed(examples: Sequence[Example], weights: Iterable[float]) -> Sequence[Example]:
    """The same examples with other weights."""
    if isinstance(examples, StoredExamples):
        other = copy.copy(examples)  # of the same file
        other._weights = array("d", weights)
        return other
    return [replace(example, weight=weight) for example, weight in zip(examples, weights, strict=True)]


def without_targets(examples: Sequence[Example]) -> Sequence[Example]:
    """The same examples with nothing to learn."""
    if isinstance(examples, StoredExamples):
        other = copy.copy(examples)  # of the same file
        other._sizes = array("i", examples._sizes)
        other._sizes[2::3] = array("i", [-1]) * len(examples)
        other._targets = [None] * len(examples)
        return other
    return [replace(example, target=None) for example in examples]


class StoredExamples(Sequence[Example]):
    """Examples of token ids, read from a mapped file when they are asked for.

    The inputs of an example are a list of ids or a pair of lists, its target a list of ids or anything else, which then
    stays in memory, as do a few numbers an example.
    """

    def __init__(self, *parts: Iterable[Example]) -> None:
        file = spill.Spill()
        self._starts, self._sizes = array("q"), array("i")  # three sizes an example: ids, second ids, target; -1: none
        self._lengths, self._weights, self._rows = array("q"), array("d"), array("q")
        self._targets: list[Any] = []
        for example in (example for part in parts for example in part):
            lists = [*example.inputs] if isinstance(example.inputs, tuple) else [example.inputs, None]
            in_file = isinstance(example.target, list) and all(type(label) is int for label in example.target)
            lists.append(example.target if in_file else None)
            ids = [np.asarray(numbers, np.int32).tobytes() for numbers in lists if numbers is not None]
            self._starts.append(file.write(*ids) // 4)
            self._sizes.extend(-1 if numbers is None else len(numbers) for numbers in lists)
            self._targets.append(None if in_file else example.target)
            self._lengths.append(example.length)
            self._weights.append(example.weight)
            self._rows.append(example.rows)
        self._ids = np.frombuffer(file.mapped(), np.int32)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: Any) -> Any:
        place = range(len(self))[index]  # an IndexError beyond the end
        if isinstance(place, range):
            return [self[i] for i in place]
        start, lists = self._starts[place], []
        for size in self._sizes[3 * place : 3 * place + 3]:
            lists.append(None if size < 0 else self._ids[start : start + size].tolist())
            start += max(size, 0)
        first, second, target = lists
        return Example(
            first if second is None else (first, second),
            self._targets[place] if target is None else target,
            self._lengths[place],
            self._weights[place],
            self._rows[place],
        )
