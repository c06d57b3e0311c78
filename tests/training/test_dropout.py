"""The base's own dropout may be off while an adapter trains; that of the strategy stays."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adapterhub_lite.training.attachment import attach
from tests.reading import load_data

TEXTS = ["the card is lost", "money please", "where is my new card"]


def losses(engine: Any, base: Any, settings: dict[str, Any], base_dropout: bool) -> list[float]:
    """The loss of one batch, twice."""
    data = load_data({"text": TEXTS, "label": ["a", "b", "a"]}, "text-classification")
    task, provided = engine.task_for(base, data, {}), engine.strategy_shelf.resolve("lora")
    options = engine.strategy_shelf.configure(provided, {"rank": 4, **settings})
    torch.manual_seed(0)
    attachment = attach(base, task, provided, engine.strategy_shelf.load(provided), options)
    with torch.no_grad():
        for name, parameter in attachment.parameters.items():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    batch = task.collate(task.encode(data, base).examples, base)
    with attachment.training(base_dropout=base_dropout):
        given = [float(attachment.loss(batch, 3.0).detach()) for _ in range(2)]
    attachment.detach()
    return given


@pytest.mark.parametrize(
    ("settings", "base_dropout", "varies"), [({}, False, False), ({}, True, True), ({"dropout": 0.5}, False, True)]
)
def test_whose_dropout_is_on(
    engine: Any, base: Any, settings: dict[str, Any], base_dropout: bool, varies: bool
) -> None:
    loaded = base("tiny-bert")
    rates = [module.p for module in loaded.model.modules() if isinstance(module, torch.nn.Dropout)]
    assert 0.1 in rates
    first, second = losses(engine, loaded, settings, base_dropout)
    assert (first != second) == varies
    assert [module.p for module in loaded.model.modules() if isinstance(module, torch.nn.Dropout)] == rates


def test_rates_that_are_numbers_are_put_back(engine: Any) -> None:
    from transformers import LlamaConfig, LlamaModel

    from adapterhub_lite.base.dropout import without_dropout

    config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    config.attention_dropout = 0.25
    model = LlamaModel(config)

    def rates() -> list[float]:
        return [layer.self_attn.attention_dropout for layer in model.layers]

    with without_dropout(model.modules()):
        assert rates() == [0.0, 0.0]
    assert rates() == [0.25, 0.25]
