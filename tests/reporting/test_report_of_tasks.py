"""Every task has its report: tags, several labels a row, numbers of texts."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.reporting.test_report import Seen, facts_in, page_in

DRAW = random.Random(0)
WORDS = ["card", "money", "bank", "bill", "app", "good", "bad"]


def texts(n: int) -> list[str]:
    return [" ".join(DRAW.choice(WORDS) for _ in range(DRAW.randint(2, 6))) for _ in range(n)]


def tagged(n: int) -> list[dict[str, Any]]:
    rows = [text.split() for text in texts(n)]
    return [{"tokens": row, "tags": ["B-THING" if word in ("card", "bill") else "O" for word in row]} for row in rows]


def labelled(n: int) -> list[dict[str, Any]]:
    return [{"text": text, "labels": [word for word in ("card", "bank") if word in text.split()]} for text in texts(n)]


def measured(n: int) -> list[dict[str, Any]]:
    return [{"text": text, "target": float(len(text.split()))} for text in texts(n)]


@pytest.mark.parametrize(
    ("task", "rows", "kind", "titles"),
    [
        ("token-classification", tagged, "tokens", ["Scores", "Classes"]),
        ("text-classification", labelled, "labels", ["Scores", "Classes", "Calibration"]),
        ("text-regression", measured, "value", ["Scores", "Numbers", "Most wrong"]),
    ],
)
def test_a_task_has_its_report(run_on, task, rows, kind, titles):
    columns = {"labels": "labels"} if kind == "labels" else {}
    run = run_on(rows(40), rows(30), task=task, columns=columns)
    facts, page = facts_in(run.folder), page_in(run.folder)
    assert facts["adapter"]["kind"] == kind
    assert facts["metric"] == run.adapter.attachment.task.metric
    for title in titles:
        assert f">{title}</h2>" in page
    assert Seen(page).open == []
    run.adapter.detach()
