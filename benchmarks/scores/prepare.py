"""Making the files of the folds and the sensor bases out of the data as published; each once."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from pathlib import Path

from benchmarks.scores.jobs import SMOLLM, Files

COMPANY_FOLDS = 5
SENSORS = ("unit", "cycle", *(f"setting_{i}" for i in range(1, 4)), *(f"sensor_{i}" for i in range(1, 22)))


def company_folds(files: Files) -> None:
    """unfair_tos as published: for each official fold of ten companies a file of it and one of the other four."""
    source = files.data / "unfair_tos" / "unfair_tos_en.tsv"
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for fold in range(COMPANY_FOLDS):
        for name, chosen in (
            ("train", [row for row in rows if int(row["fold"]) != fold]),
            ("test", [row for row in rows if int(row["fold"]) == fold]),
        ):
            _write(files.made / "unfair_tos" / str(fold) / f"{name}.csv", ["company", "text", "unfair"], chosen)


def engines(files: Files) -> None:
    """C-MAPSS FD001: a row a cycle, with the cycles that remain; in the test file up to its true end."""
    folder = files.data / "cmapss"
    ends = [int(line) for line in (folder / "RUL_FD001.txt").read_text().split()]
    for name in ("train", "test"):
        rows = [line.split() for line in (folder / f"{name}_FD001.txt").read_text().splitlines()]
        last = {row[0]: int(row[1]) for row in rows}
        left = {unit: 0 if name == "train" else ends[int(unit) - 1] for unit in last}
        table = [
            {**dict(zip(SENSORS, row, strict=True)), "RUL": left[row[0]] + last[row[0]] - int(row[1])} for row in rows
        ]
        _write(files.made / "cmapss" / f"{name}.csv", [*SENSORS, "RUL"], table)


def instructions(files: Files) -> None:
    """Raschka's instructions, which come without a split: 85 % to learn from and 15 % held out, by a fixed seed."""
    rows = json.loads((files.data / "instruct_rasbt" / "instruction-data.json").read_text(encoding="utf-8"))
    random.Random(123).shuffle(rows)
    cut = round(0.85 * len(rows))
    for name, chosen in (("train", rows[:cut]), ("test", rows[cut:])):
        path = files.made / "instruct" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen), encoding="utf-8")


def sensor_bases(files: Files) -> None:
    """The pre-trained PatchTSTs, and one with random weights for a probe on those."""
    bases: list[tuple[str, str, str, list[str]]] = [
        ("cmapss", "cmapss", "cmapss", []),
        ("ucr", "ucr", "ucr_uea", []),
        ("ucr-random", "ucr", "ucr_uea", ["--random"]),
    ]
    for name, kind, data, more in bases:
        out = files.made / "bases" / name
        if not (out / "config.json").is_file():
            command = ["-m", "benchmarks.pretrain_series", "--kind", kind, "--data", str(files.data / data)]
            subprocess.run([sys.executable, *command, "--out", str(out), *more], check=True)


def chat_base(files: Files) -> None:
    """SmolLM2 out of its GGUF file, as a folder that transformers and TRL open as well."""
    out = files.made / "bases" / "smollm2"
    if not (out / "config.json").is_file():
        from adapterhub_lite.engine import Engine

        base = Engine().load_base(SMOLLM, dtype="float32", device="cpu")
        base.model.save_pretrained(out)
        base.tokenizer.save_pretrained(out)


def prepare(files: Files) -> None:
    """Make everything that is not there yet."""
    for path, make in (
        (files.made / "unfair_tos" / "4" / "test.csv", company_folds),
        (files.made / "cmapss" / "test.csv", engines),
        (files.made / "instruct" / "test.jsonl", instructions),
    ):
        if not path.is_file():
            make(files)


def _write(path: Path, columns: list[str], rows: list[dict[str, object]] | list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
