"""Every strategy on every task that reads text: trained, saved, loaded, and the same predictions again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from adapterhub_lite import load_data
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig

STRATEGIES: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4},
    "prefix": {"length": 4},
    "linear_probe": {"penalty": 1e-2},
    "full": {},
}
TEXTS = [f"{'good' if row % 2 else 'bad'} {word}" for row in range(2) for word in ("day", "bank", "bird", "tree")]
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "classes": ("text-classification", {"text": TEXTS, "label": [0] * 4 + [1] * 4}),
    "labels": ("text-classification", {"text": TEXTS, "labels": [["x"]] * 3 + [[]] + [["x", "y"]] * 3 + [["y"]]}),
    "pairs": ("text-classification", {"text": TEXTS, "text_pair": TEXTS[::-1], "label": [0] * 4 + [1] * 4}),
    "values": ("text-regression", {"text": TEXTS, "target": [10.0] * 4 + [20.0] * 4}),
    "tags": (
        "token-classification",
        {"tokens": [text.split() for text in TEXTS], "tags": [["B-X", "O"]] * 4 + [["O", "O"]] * 4},
    ),
}


@pytest.mark.parametrize("strategy", list(STRATEGIES))
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("model", ["encoder", "decoder"])
def test_train_save_load_predict(engine: Any, tmp_path: Path, model: str, kind: str, strategy: str) -> None:
    task, columns = KINDS[kind]
    base, data = tiny_base(model), load_data(columns, task)
    config = TrainConfig(steps=4, batch_size=4, learning_rate=5e-3)
    adapter = engine.train(base, data, eval_data=data, strategy=strategy, settings=STRATEGIES[strategy], config=config)
    assert all(math.isfinite(value) for value in adapter.metrics.values())
    said = [output.columns() for output in adapter.predict(columns)]
    assert len(said) == 8
    scores = adapter.evaluate(data).metrics
    assert adapter.attachment.task.metric in scores
    adapter.save(tmp_path / "adapter")
    adapter.detach()
    again = engine.load_adapter(tmp_path / "adapter", base=base)
    assert [output.columns() for output in again.predict(columns)] == said
    assert again.evaluate(data).metrics == scores
    again.detach()


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_balanced_weights_go_with_every_strategy(engine: Any, kind: str) -> None:
    task, columns = KINDS[kind]
    data = load_data(columns, task, options={"class_weights": "balanced"})
    for strategy, settings in STRATEGIES.items():
        base = tiny_base("encoder")
        adapter = engine.train(base, data, strategy=strategy, settings=settings, config=TrainConfig(steps=2))
        assert adapter.attachment.task.preprocessing.options["class_weights"] == "balanced"
        assert math.isfinite(adapter.evaluate(data).metrics["loss"])
        adapter.detach()
