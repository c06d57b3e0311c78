"""Notes at the end of a run, each where it applies and not where it does not."""

from __future__ import annotations

import math

import pytest
import torch

import adapterhub_lite as ah
from adapterhub_lite.cli.train import _show
from adapterhub_lite.progress import Silent
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.notes import note_of_classes, note_of_probe, note_of_size, notes_of_losses
from adapterhub_lite.training.state import State, TrainReport


class Said(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def report(losses: list[float], held_out: dict[int, float] | None = None) -> TrainReport:
    scores = [(step, {"loss": loss}) for step, loss in (held_out or {}).items()]
    return TrainReport(State(micro_batch_size=1, step=len(losses)), losses=losses, evaluations=scores)


def falling(steps: int, to: float) -> list[float]:
    """From 2 down, each step by the same share."""
    return [2 * (to / 2) ** (step / steps) for step in range(steps)]


def test_a_loss_that_was_still_falling_is_told_with_the_option():
    (note,) = notes_of_losses(report(falling(40, to=1.0)), TrainConfig(epochs=3))
    assert note.startswith("the loss was still falling")
    assert "--epochs 6" in note
    (note,) = notes_of_losses(report(falling(40, to=1.0)), TrainConfig(steps=40))
    assert "--steps 80" in note


@pytest.mark.parametrize(
    "losses",
    [[1.0] * 40, falling(20, to=0.05) + [0.05] * 40, falling(40, to=0.001), [1 + 0.3 * (-1) ** i for i in range(40)], [2.0, 1.0]],
    ids=["level", "levelled off", "learnt", "noise", "too short to tell"],
)  # fmt: skip
def test_a_loss_that_was_not_falling_is_not_told(losses):
    assert notes_of_losses(report(losses), TrainConfig(epochs=3)) == []


def test_learning_by_heart_is_told():
    losses = falling(40, to=0.001)
    (note,) = notes_of_losses(report(losses, {10: 0.4, 20: 0.5, 40: 0.9}), TrainConfig(epochs=3))
    assert "learnt by heart" in note
    assert "0.4 (step 10) to 0.9" in note
    assert "--epochs" in note
    assert notes_of_losses(report(losses, {10: 0.9, 20: 0.5, 40: 0.4}), TrainConfig(epochs=3)) == []
    assert notes_of_losses(report([2.0] * 40, {10: 0.4, 20: 0.5, 40: 0.9}), TrainConfig(epochs=3)) == []


def test_a_class_that_is_never_predicted_is_told():
    logits = torch.tensor([[2.0, 0.0, 1.0]] * 10)
    (note,) = note_of_classes(logits, torch.tensor([0] * 4 + [1] * 4 + [2] * 2), ["a", "b", "c"])
    assert "'b' (4 rows)" in note
    assert "'c'" not in note  # two rows may be missed by chance
    assert "--class-weights balanced" in note
    assert note_of_classes(logits, torch.tensor([0] * 10), ["a", "b", "c"]) == []


def outputs(right: list[bool]) -> torch.Tensor:
    """Two outputs a row, of which the first is the true one."""
    return torch.tensor([[1.0, 0.0] if one else [0.0, 1.0] for one in right])


def test_a_probe_that_is_as_good_is_told_with_a_paired_interval():
    targets, probe = torch.zeros(200, dtype=torch.long), outputs([i % 10 > 0 for i in range(200)])
    (note,) = note_of_probe(probe, probe, targets, None)
    assert "would have been as good" in note
    assert "both are as good on each of the held-out rows" in note
    assert "--strategy linear_probe" in note
    better = outputs([True] * 200)
    assert note_of_probe(better, probe, targets, None) == []
    (note,) = note_of_probe(probe, better, targets, None)
    assert "-0.100 ahead" in note
    slightly = outputs([i % 10 > 0 or i == 0 for i in range(200)])  # one row of 200: 0.5 points
    (note,) = note_of_probe(slightly, probe, targets, None)
    assert "+0.005 ahead" in note


def test_numbers_are_compared_by_the_share_of_the_spread():
    targets = torch.arange(100.0)[:, None]
    near, far = targets + 1, targets + 20
    assert note_of_probe(near, far, targets, None) == []
    assert len(note_of_probe(far, near, targets, None)) == 1


def test_held_out_rows_that_are_too_few_are_told_with_the_least_difference():
    n, p = 25, 0.8
    half = 1.96 * math.sqrt(p * (1 - p) / n)
    metrics = {"n": float(n), "accuracy": p, "accuracy_low": p - half, "accuracy_high": p + half}
    (note,) = note_of_size(metrics, "accuracy")
    assert "25 held-out rows cannot tell" in note
    assert f"{half:.2g}" in note
    assert "--hold-out" in note
    assert note_of_size({**metrics, "accuracy_low": 0.79, "accuracy_high": 0.81}, "accuracy") == []
    assert note_of_size({"n": 3.0, "accuracy": 1.0}, "accuracy") == []


def test_notes_come_with_the_adapter(references):
    engine = ah.Engine(progress=Silent())
    base = engine.load_base(references("tiny-bert"), dtype="float32", device="cpu")
    words = ["good", "bad", "one"]
    rows = {
        "text": [f"{words[i % 3]} number {i}" for i in range(60)],
        "label": ["n" if i % 3 else "y" for i in range(60)],
    }
    data = engine.load_data(rows, "text-classification")
    config = TrainConfig(steps=12, learning_rate=1e-4)
    engine.progress = said = Said()
    adapter = engine.train(base, data, config=config, hold_out=0.3)
    notes = " ".join(adapter.notes)
    assert "never predicted on the held-out rows: 'y'" in notes
    assert "cannot tell two strategies apart" in notes
    assert adapter.training["notes"] == adapter.notes
    assert [line for line in said.lines if line.startswith("note: ")] == [f"note: {note}" for note in adapter.notes]


def test_the_end_of_train_shows_them(capsys):
    base = {"adapter": "out", "size_bytes": 1, "trainable": 1, "base_parameters": 1, "seconds": 1, "metrics": {}}
    _show({**base, "notes": ["the loss was still falling [0.5]"]})
    assert "note: the loss was still falling [0.5]" in capsys.readouterr().out
