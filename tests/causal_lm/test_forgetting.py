"""What training made a base forget, against the same numbers computed by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from adapterhub_causal_lm.forgetting import GENERAL, paragraphs
from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.base.loading import Base
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.storage import read_adapter
from adapterhub_lite.training.config import TrainConfig

CHATS = [
    {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
    for asked, said in (("where is my card", "it is here"), ("can i pay", "please wait"), ("help", "what is it"))
]
CONFIG = {"steps": 8, "batch_size": 3, "learning_rate": 0.02}


def by_hand(adapter: Adapter, texts: list[str]) -> dict[str, float]:
    """The model called text by text, with the adapter and without."""
    model, tokenizer = adapter.base.model, adapter.base.tokenizer
    losses, likeliest, count = [0.0, 0.0], [[], []], 0  # type: ignore[var-annotated]
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        count += ids.shape[1] - 1
        for number in (0, 1):
            if number:
                adapter.use()
            else:
                adapter.base.activate(None)
            with torch.no_grad():
                logits = model(input_ids=ids).logits[0, :-1].float()
            losses[number] += float(functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            likeliest[number] += logits.argmax(dim=-1).tolist()
    same = sum(before == after for before, after in zip(*likeliest, strict=True))
    return {
        "tokens": count, "loss_before": losses[0] / count, "loss_after": losses[1] / count, "agreement": same / count,
    }  # fmt: skip


@pytest.mark.parametrize("strategy", ["lora", "prefix", "full"])
def test_the_numbers_are_those_computed_by_hand(
    strategy: str, engine: Engine, base: Callable[..., Base], tmp_path: Path
) -> None:
    loaded, data = base("tiny-llama"), engine.load_data(CHATS, "causal-lm")
    texts = ["the bank is not here\ni lost my card", "one two three", "what is the exchange rate"]
    file = tmp_path / "general.txt"
    file.write_text("\n\n".join([*texts[:2], "   ", texts[2]]) + "\n")
    config = TrainConfig(**CONFIG, general_text=str(file))
    adapter = engine.train(loaded, data, strategy=strategy, config=config)
    measured = adapter.training["forgetting"]
    assert measured == pytest.approx(by_hand(adapter, texts), rel=1e-5)
    assert measured["loss_before"] != measured["loss_after"]
    assert 0 < measured["agreement"] < 1
    adapter.save(tmp_path / "saved")
    manifest = read_adapter(tmp_path / "saved").manifest
    assert manifest.training["forgetting"] == measured
    assert str(tmp_path) not in json.dumps(manifest.training)
    adapter.detach()


def test_chats_are_measured_on_a_text_of_ours_and_nothing_else_is(engine: Engine, base: Callable[..., Base]) -> None:
    loaded = base("tiny-llama")
    chats = engine.load_data(CHATS, "causal-lm")
    measured = engine.train(loaded, chats, config=TrainConfig(**CONFIG)).training["forgetting"]
    pieces = paragraphs(GENERAL.read_text(), loaded, 64)  # what this base reads
    assert measured["tokens"] == sum(len(piece) - 1 for piece in pieces)
    assert "forgetting" not in engine.train(loaded, chats, config=TrainConfig(**CONFIG, general_text="off")).training
    rows = engine.load_data([{"prompt": "my card", "completion": "is here"}], "causal-lm")
    assert "forgetting" not in engine.train(loaded, rows, config=TrainConfig(**CONFIG)).training


def test_an_adapter_that_learnt_nothing_forgot_nothing(engine: Engine, base: Callable[..., Base]) -> None:
    config = TrainConfig(steps=1, batch_size=3, learning_rate=1e-38)
    measured = engine.train(base("tiny-llama"), engine.load_data(CHATS, "causal-lm"), config=config).training[
        "forgetting"
    ]
    assert measured["agreement"] == 1
    assert measured["loss_before"] == measured["loss_after"]


def test_a_text_that_cannot_be_read_is_refused_before_training(
    engine: Engine, base: Callable[..., Base], tmp_path: Path
) -> None:
    loaded, data = base("tiny-llama"), engine.load_data(CHATS, "causal-lm")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xff")
    for name in ("nowhere", "bytes"):
        config = TrainConfig(**CONFIG, general_text=str(tmp_path / name))
        with pytest.raises(ConfigError, match=f"--general-text .*{name}: cannot be read as UTF-8 text"):
            engine.train(loaded, data, config=config)


@pytest.mark.slow
def test_it_takes_a_few_seconds(engine: Engine, base: Callable[..., Base]) -> None:
    loaded = base("smollm2")
    data = engine.load_data(CHATS, "causal-lm")
    times = []
    for text in ("off", None):
        begun = time.monotonic()
        engine.train(loaded, data, config=TrainConfig(steps=1, batch_size=1, general_text=text)).detach()
        times.append(time.monotonic() - begun)
    assert times[1] - times[0] < 15


def test_train_says_it(run: Any, references: Callable[[str], str], tmp_path: Path) -> None:
    data = tmp_path / "chats.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in CHATS))
    given = [
        "--base",
        references("tiny-llama"),
        "--data",
        data,
        "--task",
        "causal-lm",
        "--steps",
        2,
        "--dtype",
        "float32",
    ]
    outcome = run("train", *given, "--out", tmp_path / "chat")
    assert outcome.code == 0, outcome.err
    measured = read_adapter(tmp_path / "chat").manifest.training["forgetting"]
    assert isinstance(measured, dict)
    assert f"on general text ({measured['tokens']} tokens): loss {measured['loss_before']:.4f} before" in outcome.out
    assert "general text" in run("inspect", tmp_path / "chat").out
