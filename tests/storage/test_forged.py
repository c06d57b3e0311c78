"""Adapters forged by somebody who recomputes every hash: what is no legal adapter is refused, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_thousand_forged_adapters():
    command = [sys.executable, "-m", "benchmarks.storage_attack", "--damaged", "0", "--forged", "1200", "--json"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.stdout, done.stderr[-2000:]
    summary = json.loads(done.stdout)["forged"]
    bad = {kind: summary[kind][:5] for kind in ("loaded", "refused", "untyped", "slow") if summary[kind]}
    assert bad == {}
    assert summary["canary"] is False
    assert summary["memory_bytes"] < 200e6
    assert summary["mutants"] - summary["kinds"]["legal"] >= 1000
    assert min(summary["kinds"].values()) > 60
    assert done.returncode == 0


def test_settings_cannot_ask_for_more_memory_than_the_file_is_worth():
    import pytest
    import torch

    from adapterhub_lite.adapter.allocation import FREE, AllocationLimit
    from adapterhub_lite.errors import AdapterCorruptError

    with AllocationLimit(100, "x"):
        torch.zeros(1000, 1000)
        torch.nn.Linear(10, 10)
        torch.empty(1 << 40, device="meta")
    for make in (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn):
        with pytest.raises(AdapterCorruptError, match="ask for"), AllocationLimit(100, "x"):
            make(1 << 40)
    with pytest.raises(AdapterCorruptError, match="ask for"), AllocationLimit(100, "x"):
        torch.nn.Linear(1 << 20, 1 << 20)

    def many() -> None:
        for _ in range(100):
            torch.empty(FREE // 50, dtype=torch.int8)

    with pytest.raises(AdapterCorruptError, match="ask for"), AllocationLimit(100, "x"):
        many()
