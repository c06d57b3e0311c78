"""Features are pooled as sentence-transformers declares it: every spelling, compared with formulas written out here."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.training.config import TrainConfig
from adapterhub_text.declared import declared_pooling

TEXTS = ["my card", "the new card was not here", "i paid the old bill with the app please"]
ST = "sentence_transformers.models"


def by_hand(rows: Tensor, way: str) -> Tensor:
    """One vector of the features of the tokens of one text, (tokens, hidden_size), token by token."""
    total = torch.zeros(rows.shape[1])
    if way == "cls":
        return rows[0]
    if way == "last":
        return rows[len(rows) - 1]
    if way == "max":
        return torch.tensor([max(float(row[i]) for row in rows) for i in range(rows.shape[1])])
    count = 0
    for number, row in enumerate(rows, start=1):
        weight = number if way == "weightedmean" else 1
        total, count = total + weight * row, count + weight
    return total / (math.sqrt(count) if way == "mean_sqrt_len" else count)


@pytest.fixture
def declared(references: Callable[[str], str], engine: Any, tmp_path: Path) -> Callable[..., Any]:
    """A tiny BERT with files of sentence-transformers beside it."""

    def load(pooling: dict[str, Any] | None, *more: str, prompts: dict[str, Any] | None = None) -> Any:
        folder = tmp_path / "base"
        shutil.copytree(references("tiny-bert"), folder)
        modules = [
            ("", f"{ST}.Transformer"),
            ("1_Pooling", f"{ST}.Pooling"),
            *((f"{n}_M", m) for n, m in enumerate(more)),
        ]
        listed = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)]
        (folder / "modules.json").write_text(json.dumps(listed))
        if pooling is not None:
            (folder / "1_Pooling").mkdir()
            (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        if prompts is not None:
            (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
        return engine.load_base(folder, dtype="float32", device="cpu")

    return load


def features(engine: Any, base: Any, **options: Any) -> Tensor:
    """What the head is given for the texts, in one padded batch."""
    from adapterhub_lite.tasks.task import encode

    data = engine.load_data(
        [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(TEXTS)], "text-classification"
    )
    task = engine.task_for(base, data, options)
    examples = encode(task, data, base).examples
    with torch.no_grad():
        made: Tensor = task.features(base, task.collate(examples, base))[0]
    head = task.head(base.map)
    assert head.in_features == made.shape[1]
    return made


def hidden(base: Any, text: str) -> Tensor:
    """The features of the tokens of a text alone."""
    with torch.no_grad():
        rows: Tensor = base.model(**base.tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    return rows


OLD = {
    "cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "mean_sqrt_len": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens", "last": "lasttoken",
}  # fmt: skip
NEW = {
    "cls": "cls", "mean": "mean", "max": "max", "mean_sqrt_len": "mean_sqrt_len_tokens", "weightedmean": "weightedmean",
    "last": "lasttoken",
}  # fmt: skip


@pytest.mark.parametrize("way", OLD)
@pytest.mark.parametrize("spelling", ["old", "new", "option"])
def test_every_way_in_every_spelling(engine: Any, declared: Any, way: str, spelling: str) -> None:
    old = {f"pooling_mode_{name}": ours == way for ours, name in OLD.items()}
    base = declared({"old": old, "new": {"pooling_mode": NEW[way]}, "option": None}[spelling])
    made = features(engine, base, **({"pooling": way} if spelling == "option" else {}))
    expected = torch.stack([by_hand(hidden(base, text), way) for text in TEXTS])
    torch.testing.assert_close(made, expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("config", [
    {"pooling_mode": ["mean", "cls"]},
    {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False},
])  # fmt: skip
def test_several_ways_are_put_one_behind_the_other(engine: Any, declared: Any, config: Any, tmp_path: Path) -> None:
    base = declared(config)
    made = features(engine, base)
    expected = [torch.cat([by_hand(hidden(base, text), way) for way in ("cls", "mean")]) for text in TEXTS]
    torch.testing.assert_close(made, torch.stack(expected), atol=2e-6, rtol=1e-5)
    data = engine.load_data(
        [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(TEXTS)], "text-classification"
    )
    adapter = engine.train(base, data, config=TrainConfig(steps=2, batch_size=2))
    before = adapter.predict(TEXTS)
    adapter.save(tmp_path / "saved")
    adapter.detach()
    assert engine.load_adapter(tmp_path / "saved", base=base).predict(TEXTS) == before


def test_the_config_that_shared_cases_have(engine: Any, declared: Any) -> None:
    base = declared({"embedding_dimension": 32, "pooling_mode": "lasttoken", "include_prompt": True}, f"{ST}.Normalize")
    declares = declared_pooling(base.folder)
    assert (declares.pooling, declares.normalized) == ("last", True)
    expected = torch.stack([by_hand(hidden(base, text), "last") for text in TEXTS])
    expected = expected / expected.norm(dim=1, keepdim=True) * math.sqrt(expected.shape[1])
    torch.testing.assert_close(features(engine, base), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooled", [True, False])
def test_the_default_prompt_goes_before_every_text(engine: Any, declared: Any, pooled: bool) -> None:
    prompts = {"prompts": {"query": "please pay the bill ", "document": "old "}, "default_prompt_name": "query"}
    base = declared({"pooling_mode": "mean", "include_prompt": pooled}, prompts=prompts)
    before = 1 + 4  # <s> and the words of the prompt
    expected = [hidden(base, prompts["prompts"]["query"] + text) for text in TEXTS]  # type: ignore[index]
    expected = [by_hand(rows if pooled else rows[before:], "mean") for rows in expected]
    torch.testing.assert_close(features(engine, base), torch.stack(expected), atol=2e-6, rtol=1e-5)
    plain = torch.stack([by_hand(hidden(base, text), "mean") for text in TEXTS])
    torch.testing.assert_close(features(engine, base, prompt=""), plain, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(("pooling", "more", "prompts", "named"), [
    ({"pooling_mode": "attention"}, (), None, "pooling by 'attention'"),
    ({"pooling_mode_gem_tokens": True}, (), None, "pooling by 'pooling_mode_gem_tokens'"),
    ({"pooling_mode": "mean"}, (f"{ST}.Dense", f"{ST}.Normalize"), None, "a module Dense"),
    ({"pooling_mode": "mean"}, (), {"prompts": {}, "default_prompt_name": "query"}, "a default prompt 'query'"),
])  # fmt: skip
def test_what_is_not_done_is_refused_by_name(
    engine: Any, declared: Any, pooling: Any, more: Any, prompts: Any, named: str
) -> None:
    base = declared(pooling, *more, prompts=prompts)
    with pytest.raises(NotSupportedError, match="made for sentence-transformers") as refused:
        features(engine, base)
    assert named in str(refused.value)
    made = features(engine, base, pooling="cls", normalize=False)
    torch.testing.assert_close(
        made, torch.stack([by_hand(hidden(base, text), "cls") for text in TEXTS]), atol=2e-6, rtol=1e-5
    )
