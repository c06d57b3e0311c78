"""Running the command line inside the test process."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def intents(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> tuple[Path, Path]:
    """A training and a test file: 4 intents of banking77, 20 and 10 rows each."""
    folder = tmp_path_factory.mktemp("intents")
    wanted = ("card_arrival", "exchange_rate", "lost_or_stolen_card", "top_up_failed")
    for name, count in (("train", 20), ("test", 10)):
        with (shared / "data" / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        kept = [row for label in wanted for row in [r for r in rows if r["category"] == label][:count]]
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["id", "text", "category"])
            writer.writeheader()
            writer.writerows({"id": str(i), **row} for i, row in enumerate(kept))
    return folder / "train.csv", folder / "test.csv"
