"""Every architecture of transformers behaves as docs/architectures.md says: some in each run, all of them by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.architectures.check import Result
from benchmarks.architectures.table import document, verdicts
from benchmarks.architectures.tiny import kinds

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "architectures.md"
TROUBLESOME = ("falcon_h1", "longformer", "mobilenet_v2", "opt", "roberta", "siglip2_vision_model", "t5", "xlnet")
"""Each was once a traceback, a wrong number or a silence, and stands for others that were."""


def run(names: Sequence[str], tmp_path: Path) -> str:
    out = tmp_path / "results.jsonl"
    command = [sys.executable, "-m", "benchmarks.architectures"]
    subprocess.run([*command, *names, "--out", out], check=True, capture_output=True, cwd=ROOT)
    results = [Result(**json.loads(line)) for line in out.read_text().splitlines()]
    assert [result.kind for result in results] == list(names)
    return document(results)


def compare(names: Sequence[str], tmp_path: Path) -> None:
    now, then = verdicts(run(names, tmp_path)), verdicts(DOCUMENT.read_text(encoding="utf-8"))
    for name in names:
        assert now.get(name) == then.get(name), f"{name}: run python -m benchmarks.architectures, and look why"


def test_those_that_gave_trouble(tmp_path: Path) -> None:
    compare(TROUBLESOME, tmp_path)


def test_the_document_has_them_all() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    lacking = [kind for kind in kinds() if kind not in text]
    assert not lacking
    assert len(verdicts(text)) > 200


@pytest.mark.slow
def test_all_of_them(tmp_path: Path) -> None:
    compare(kinds(), tmp_path)
