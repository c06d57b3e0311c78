"""Damaged bases and run files end in success or in one line that names the file and the cure; see benchmarks/fuzz.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def fuzz(first: int, count: int) -> None:
    command = [sys.executable, "-m", "benchmarks.fuzz", "--first", str(first), "--count", str(count)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{count} mutants" in done.stdout


def test_sixty_mutants() -> None:
    fuzz(0, 60)


@pytest.mark.slow
def test_two_thousand_mutants() -> None:
    fuzz(0, 2000)
