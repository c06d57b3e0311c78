"""Evaluating: what processes send each other, what is refused, and which steps of a run are scored."""

from __future__ import annotations

import json
import pickle

import pytest
import torch

import adapterhub_lite as ah
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import DataError
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training import evaluate
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.processes import Processes
from adapterhub_text.tiny import texts


def test_processes_send_each_other_no_more_than_the_outputs(monkeypatch):
    engine, base, data = Engine(progress=Silent()), tiny_base("encoder"), texts()
    adapter = engine.train(base, data, config=TrainConfig(steps=1))
    encoded = adapter.attachment.task.encode(data, base)
    wanted = torch.cat(
        [evaluate.predict_logits(adapter.attachment, one(encoded, i), Silent()) for i in range(len(data))]
    )
    sent = []

    class Sending(Processes):
        def collect(self, parts):
            sent.append(len(pickle.dumps(parts)))
            return parts[::-1]  # whatever the order in which they come

    monkeypatch.setattr(evaluate, "EXAMPLES_AT_ONCE", 4)
    logits, targets = evaluate.outputs(adapter.attachment, encoded, Silent(), Sending())
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-5)
    assert targets.tolist() == list(data.targets)
    batches = len(data) // 4
    assert sent[0] < logits.nbytes + targets.nbytes + 2000 * batches


def one(encoded, row):
    return type(encoded)([encoded.examples[row]])


def test_nothing_to_evaluate_is_said():
    data = texts()
    adapter = Engine(progress=Silent()).train(tiny_base("encoder"), data, config=TrainConfig(steps=1))
    with pytest.raises(DataError, match="nothing to evaluate"):
        adapter.evaluate(data.select([]))


def test_the_last_step_is_scored_whatever_the_steps(references, tmp_path):
    """With 5 steps and a score every 3, the adapter of step 5 may be the best one, and has to be scored to be kept."""
    engine = ah.Engine(progress=Silent())
    base = engine.load_base(references("tiny-bert"))
    rows = {"text": ["a good day", "one bad day"] * 8, "label": ["yes", "no"] * 8}
    data = engine.load_data(rows, "text-classification")
    config = ah.TrainConfig(steps=5, eval_every=3, batch_size=4)
    engine.train(base, data, strategy="lora", eval_data=data, config=config, run_folder=tmp_path / "run")
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert [line["step"] for line in lines if "eval_accuracy" in line] == [3, 5]
