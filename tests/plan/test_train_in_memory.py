"""`--memory` in training: what is chosen is said, and the run stays below."""

from __future__ import annotations

from typing import Any

import pytest

from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.plan.storages import LiveStorages
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.models import tiny_models
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.loop import Training


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def trained(monkeypatch: pytest.MonkeyPatch, memory: str | None, strategy: str = "lora") -> tuple[int, list[str], Any]:
    """What the loop took of memory, what was said, and the adapter."""
    model, heard, live, run = tiny_models()["decoder"], Heard(), LiveStorages(), Training.run

    def counted(self: Training) -> Any:
        live.add([*self.attachment.base.model.parameters(), *self.attachment.tensors.values()], "")
        with live:
            return run(self)

    monkeypatch.setattr(Training, "run", counted)
    adapter = Engine(progress=heard).train(
        model.base(),
        model.problem(),
        strategy=strategy,
        hold_out=0,
        config=TrainConfig(steps=3, batch_size=8, memory=memory),
    )
    return live.peak, heard.lines, adapter


def test_a_run_stays_below(monkeypatch: pytest.MonkeyPatch) -> None:
    free, said, adapter = trained(monkeypatch, None)
    assert not any("--memory" in line for line in said)
    weights = adapter.base.parameters * 4
    cap = weights + (free - weights) * 3 // 5
    taken, said, adapter = trained(monkeypatch, str(cap))
    assert taken <= cap < free
    assert [line for line in said if line.startswith(f"--memory {cap}:") and "since otherwise" in line]


def test_where_there_is_room_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    _, said, adapter = trained(monkeypatch, "1GiB")
    assert any("all rows at once; a step takes" in line for line in said)
    assert not adapter.run_file or "activation_checkpointing: true" not in adapter.run_file


def test_a_memory_that_is_too_small_says_which_works(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotSupportedError, match=r"too small: the weights .* smallest that works is --memory \d+MiB"):
        trained(monkeypatch, "100kB")
    with pytest.raises(ConfigError, match="--memory is 'little'"):
        trained(monkeypatch, "little")


def test_the_probe_is_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotSupportedError, match="smallest that works"):
        trained(monkeypatch, "100kB", "linear_probe")
