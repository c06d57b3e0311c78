"""Runs with their reports, on a tiny encoder: made once, looked at by many tests."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.progress import Silent
from adapterhub_lite.reporting.engine import Engine
from adapterhub_lite.training.config import TrainConfig

HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "\u202egnp.exe\u2066 turned \u0007 around \u200f",
    "money" * 2000,
    "👩‍👩‍👧‍👦 🏳️‍🌈 " * 40,
    "{{ 7 * 7 }} {% raw %} ${x} $\\frac{1}{2}$",
    "</style></pre></blockquote><!-- ]]> &amp; &lt;",
]
HOSTILE_LABELS = ["</td><script>alert(3)</script>", "\u202elabel\u202c", "x" * 300, "$\\alpha$ & <b>"]


class Run(NamedTuple):
    """A run that left its report."""

    adapter: Adapter
    data: Dataset
    held_out: Dataset
    folder: Path


@pytest.fixture(scope="package", autouse=True)
def _with_reports() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTERHUB_REPORT", "on")
        yield


@pytest.fixture(scope="session")
def reporting() -> Engine:
    """The engine that leaves reports."""
    return Engine(progress=Silent())


@pytest.fixture(scope="module")
def run_on(
    reporting: Engine, load: Any, references: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Run]:
    """Train on rows and leave a report: `run_on(rows, held_out)`."""

    def run(
        rows: list[dict[str, Any]],
        held_out: list[dict[str, Any]],
        strategy: str = "linear_probe",
        base: str = "tiny-bert",
        task: str = "text-classification",
        **options: Any,
    ) -> Run:
        data = reporting.load_data(rows, task, **options)
        scored = reporting.load_data(held_out, task, labels=data.labels or None, **options)
        folder = tmp_path_factory.mktemp("run") / "words.run"
        config = TrainConfig() if strategy == "linear_probe" else TrainConfig(steps=6, batch_size=8, eval_every=2)
        adapter = reporting.train(
            load(references(base)), data, strategy=strategy, eval_data=scored, config=config, run_folder=folder
        )
        return Run(adapter, data, scored, folder)

    return run


def good_and_bad(n: int, seed: int) -> list[dict[str, Any]]:
    """Texts of two classes, some of them labelled wrong, with a column of three values that plays no role."""
    draw = random.Random(seed)
    rows = []
    for number in range(n):
        label = draw.choice(["good", "bad"])
        words = [draw.choice(["card", "money", "bank", "bill", "app"]) for _ in range(draw.randint(1, 5))]
        named = label if draw.random() > 0.15 else "good"
        shop = "tiny" if number < 3 else draw.choice(["north", "south"])
        rows.append({"text": f"{label} {' '.join(words)} {number}", "label": named, "shop": shop})
    return rows


@pytest.fixture(scope="module")
def plain(run_on: Callable[..., Run]) -> Run:
    """LoRA on two classes."""
    return run_on(good_and_bad(48, 1), good_and_bad(60, 2), "lora")


@pytest.fixture(scope="module")
def hostile(run_on: Callable[..., Run]) -> Run:
    """A probe on texts and labels that would like to be more than text."""
    rows = [{"text": f"{text} {i}", "label": HOSTILE_LABELS[i % 4]} for i in range(5) for text in HOSTILE]
    wrong = [{**row, "label": HOSTILE_LABELS[(i + 1) % 4]} for i, row in enumerate(rows)]
    return run_on(rows, wrong)
