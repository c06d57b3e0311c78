"""Rows with faults that are known, and an engine that says nothing."""

from __future__ import annotations

import numpy as np
import pytest

import adapterhub_lite as ah
from adapterhub_lite.progress import Silent
from tests.conftest import WORDS

BY_LENGTH = sorted(WORDS, key=len)
KINDS = {name: BY_LENGTH[place::3] for place, name in enumerate(("card", "money", "rate"))}
"""Words of each kind, as long in all of them."""


def labelled(n, seed=0, kinds=3, words=8):
    """Texts of some kinds, hardly any of which come twice."""
    random = np.random.default_rng(seed)
    names = list(KINDS)[:kinds]
    return [
        {
            "text": " ".join(random.choice(KINDS[names[row % kinds]], words)),
            "label": names[row % kinds],
            "who": row // 6,
        }
        for row in range(n)
    ]


@pytest.fixture(scope="session")
def auditing():
    """An engine that audits and says nothing."""
    return ah.Engine(progress=Silent())


@pytest.fixture(scope="session")
def looked(auditing):
    """An audit of texts with a label each."""

    def look(rows, *, eval_rows=None, columns=None, **options):
        data = auditing.load_data(rows, "text-classification", columns=columns)
        held_out = None if eval_rows is None else auditing.load_data(
            eval_rows, "text-classification", columns=columns, labels=data.labels
        )  # fmt: skip
        return auditing.audit(data, eval_data=held_out, **options)

    return look
