"""Pairs of texts against what transformers makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.training.config import TrainConfig
from tests.reading import load_data

ROWS = [
    {"premise": "A man plays a guitar on stage.", "hypothesis": "A man makes music.", "label": "yes"},
    {"premise": "Two dogs run through deep snow.", "hypothesis": "The animals are asleep.", "label": "no"},
    {"premise": "She reads a book in the park.", "hypothesis": "She is outdoors.", "label": "yes"},
    {"premise": "The shop is closed on Sundays.", "hypothesis": "You can buy bread there each day.", "label": "no"},
]


@pytest.mark.parametrize("limit", [64, 12])
def test_tokens_and_features_are_those_of_transformers(engine: Any, base: Any, limit: int) -> None:
    """Both texts, token types, truncation of the longer one, and the mean over real tokens."""
    loaded, data = base("minilm"), load_data(ROWS, "text-classification")
    task = engine.task_for(loaded, data, {"max_length": limit, "normalize": False})
    encoded = task.encode(data, loaded)
    batch = task.collate(encoded.examples, loaded)
    texts = [[row[name] for row in ROWS] for name in ("premise", "hypothesis")]
    wanted = loaded.tokenizer(*texts, truncation=True, max_length=limit, padding=True, return_tensors="pt")
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(batch[name], wanted[name]), name
    assert set(wanted["token_type_ids"].unique().tolist()) == {0, 1}
    with torch.no_grad():
        hidden = loaded.model(**wanted).last_hidden_state
        features, _ = task.features(loaded, batch)
    mask = wanted["attention_mask"][:, :, None]
    torch.testing.assert_close(features, (hidden * mask).sum(1) / mask.sum(1), rtol=0, atol=1e-5)
    assert bool(encoded.notes) == (limit == 12)


def test_an_adapter_for_pairs_takes_pairs(engine: Any, base: Any, tmp_path: Path) -> None:
    loaded, data = base("minilm"), load_data(ROWS, "text-classification")
    adapter = engine.train(loaded, data, strategy="lora", config=TrainConfig(steps=1), settings={"rank": 2})
    given = [(row["premise"], row["hypothesis"]) for row in ROWS]
    said = [p.probabilities for p in adapter.predict(given)]
    assert said == [p.probabilities for p in adapter.predict(ROWS)]
    swapped = [p.probabilities for p in adapter.predict([(b, a) for a, b in given])]
    assert said != swapped
    adapter.save(tmp_path / "pairs")
    adapter.detach()
    again = engine.load_adapter(tmp_path / "pairs", base=loaded)
    assert [p.probabilities for p in again.predict(given)] == said
    with pytest.raises(ConfigError, match="input 1 is 'alone'; this adapter was trained on pairs of texts"):
        again.predict(["alone"])
    rows = [{"text": "alone", "label": "yes"}, {"text": "alone", "label": "no"}]
    with pytest.raises(DataError, match="trained on pairs of texts, not single texts; name the second text"):
        again.evaluate(rows)
    again.detach()


def test_nothing_between_two_texts_is_said(engine: Any, base: Any) -> None:
    data = load_data(ROWS, "text-classification")
    loaded = base("smollm2-4")
    assert "puts nothing between" in engine.task_for(loaded, data).encode(data, loaded).notes[-1]
    loaded = base("minilm")
    assert not engine.task_for(loaded, data).encode(data, loaded).notes
