"""Going on with a saved adapter: it starts as what was saved, keeps what it knows, and says where it comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adapterhub_causal_lm.tiny import completions
from adapterhub_images.tiny import halves
from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.adapter.parent import LINEAGE, Parent
from adapterhub_lite.adapter.probe import probe_logits
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.splits import split
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import AdapterNotFoundError, ConfigError, NotSupportedError
from adapterhub_lite.storage.history import list_versions
from adapterhub_lite.testing import tiny_base
from adapterhub_lite.training.config import TrainConfig
from adapterhub_series.tiny import heights, waves
from adapterhub_text.tiny import texts, values
from adapterhub_tokens.tiny import things
from tests.training.conftest import contents, equal
from tests.training.test_resume import Killed, killed_after

CONFIG = TrainConfig(steps=6, batch_size=8, learning_rate=0.01, seed=3)
STILL = TrainConfig(steps=1, batch_size=4, learning_rate=1e-38, weight_decay=0.0)
"""A step so short that fp32 does not see it."""

DATA: dict[str, Callable[[], Dataset]] = {
    "encoder": texts, "values": values, "tagger": things, "vision": halves, "series": waves, "heights": heights,
    "decoder": completions,
}  # fmt: skip
BASES = {"values": "encoder", "tagger": "encoder", "heights": "series"}
CASES = [
    *(("encoder", strategy) for strategy in ("lora", "prefix", "full", "peft:ia3", "peft:oft")),
    *((model, "lora") for model in DATA if model != "encoder"),
    ("decoder", "prefix"), ("decoder", "full"), ("vision", "full"), ("decoder", "peft:vera"),
]  # fmt: skip


def with_a_new_label(data: Dataset) -> Dataset:
    """The same rows with a third label, which is the first in order, on every fifth of them (on every fifth word)."""

    def renamed(target: Any, number: int) -> Any:
        if isinstance(target, tuple):
            return tuple(renamed(part, number + place) for place, part in enumerate(target))
        return 0 if number % 5 == 0 else target + 1

    assert data.targets is not None
    targets = tuple(renamed(target, row) for row, target in enumerate(data.targets))
    return dataclasses.replace(data, targets=targets, labels=("a new one", *data.labels))


def outputs(adapter: Adapter, items: Any) -> list[Tensor]:
    adapter.use()
    return probe_logits(adapter.attachment.task, adapter.base, list(items), adapter.attachment.logits)


@pytest.mark.parametrize(("model", "strategy"), CASES, ids=[" ".join(case) for case in CASES])
def test_it_starts_as_what_was_saved(model: str, strategy: str, engine: Engine, tmp_path: Path) -> None:
    base, data = tiny_base(BASES.get(model, model)), DATA[model]()
    parent = engine.train(base, data, strategy=strategy, config=CONFIG)
    parent.save(tmp_path / "parent")
    items = data.inputs[:6]
    before, bits = outputs(parent, items), {name: t.detach().clone() for name, t in parent.attachment.tensors.items()}
    # Numbers on another scale, which is not taken over.
    scale = None if not isinstance((data.targets or (0,))[0], float) else tuple(7 * t + 3 for t in data.targets or ())
    same = dataclasses.replace(data, targets=scale or data.targets)
    child = engine.train(base, same, config=STILL, from_adapter=tmp_path / "parent")
    assert all(map(torch.equal, outputs(child, items), before))
    assert child.task_record().preprocessing == parent.task_record().preprocessing
    assert child.attachment.provided.spec.name == strategy
    child.detach()
    if not data.labels:
        return
    child = engine.train(base, with_a_new_label(data), config=STILL, from_adapter=tmp_path / "parent")
    assert child.labels == (*data.labels, "a new one")
    weight, bias = (child.attachment.tensors[f"head.{name}"].detach() for name in ("weight", "bias"))
    assert torch.equal(weight[:2], bits["head.weight"])
    assert torch.equal(bias[:2], bits["head.bias"])
    assert weight.shape[0] == 3
    assert float(weight[2].abs().max()) > 0
    for new, old in zip(outputs(child, items), before, strict=True):
        torch.testing.assert_close(new[:, :2], old)
    child.save(tmp_path / "child")
    again = engine.load_adapter(tmp_path / "child", base=base)
    assert all(map(torch.equal, outputs(again, items), outputs(child, items)))


def test_what_is_learnt_has_the_labels_it_was_given(engine: Engine, tmp_path: Path) -> None:
    base, data = tiny_base("encoder"), texts()
    engine.train(base, data, config=TrainConfig(steps=40, batch_size=16, learning_rate=0.003)).save(tmp_path / "parent")
    rows = [
        *({"text": f"{word} one", "label": "word"} for word in ("two", "three", "four", "five", "six")),
        *(
            {"text": text, "label": data.labels[target]}
            for text, target in zip(data.inputs, data.targets or (), strict=True)
        ),
    ]
    given = engine.load_data(rows, "text-classification")
    assert given.labels == ("no", "word", "yes")
    config = TrainConfig(steps=60, batch_size=21, learning_rate=0.003)
    child = engine.train(base, given, config=config, from_adapter=tmp_path / "parent", eval_data=rows)
    said = [prediction.label for prediction in child.predict([row["text"] for row in rows])]
    assert sum(label == row["label"] for label, row in zip(said, rows, strict=True)) >= 0.9 * len(rows)
    assert child.metrics["accuracy"] >= 0.9


def test_several_labels_keep_their_places(engine: Engine, tmp_path: Path) -> None:
    base = tiny_base("encoder")
    rows = [{"text": "good one", "labels": ["good"]}, {"text": "bad two", "labels": ["bad", "old"]}] * 4
    columns = {"labels": "labels"}
    engine.train(base, engine.load_data(rows, "text-classification", columns=columns), config=CONFIG).save(
        tmp_path / "p"
    )
    more = [{"text": "good one", "labels": ["good", "any"]}, {"text": "bad two", "labels": ["bad"]}] * 4
    new = engine.load_data(more, "text-classification", columns=columns)
    assert new.labels == ("any", "bad", "good")
    child = engine.train(base, new, config=STILL, from_adapter=tmp_path / "p")
    assert child.labels == ("bad", "good", "old", "any")
    moved = Parent.open(tmp_path / "p").relabelled(new)
    assert moved.targets is not None
    assert [sorted(moved.labels[place] for place in target) for target in moved.targets] == [
        sorted(row["labels"]) for row in more
    ]


def test_the_manifest_says_where_it_comes_from(engine: Engine, tmp_path: Path) -> None:
    base, data = tiny_base("encoder"), texts()
    first, second = split(data, 0.5, seed=0)
    engine.train(base, first, config=CONFIG).save(tmp_path / "a")
    engine.train(base, second, config=STILL, from_adapter=tmp_path / "a").save(tmp_path / "b")
    child = engine.train(base, with_a_new_label(data), config=CONFIG, from_adapter=tmp_path / "b")
    child.save(tmp_path / "c")
    recorded = json.loads((tmp_path / "c" / "adapterhub.json").read_text())["training"][LINEAGE]
    for entry, name, rows, steps in zip(recorded, "ab", (len(first), len(second)), (6, 1), strict=True):
        (version,) = list_versions(tmp_path / name)
        assert entry["manifest_sha256"][:12] == version.id
        assert (entry["data"]["rows"], entry["steps"], entry["labels"]) == (rows, steps, 2)
        assert entry["created"] == version.manifest.created
    assert engine.load_adapter(tmp_path / "c", base=base).training[LINEAGE] == recorded


@pytest.mark.parametrize("strategy", ["lora", "full", "peft:adalora"])
def test_it_is_resumed_exactly(strategy: str, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, config = with_a_new_label(texts()), TrainConfig(steps=6, batch_size=8, checkpoint_every=2, learning_rate=0.01)
    engine.train(tiny_base("encoder"), texts(), strategy=strategy, config=CONFIG).save(tmp_path / "parent")

    def run(name: str, resume: bool = False) -> dict[str, Tensor]:
        child = engine.train(
            tiny_base("encoder"), data, config=config, from_adapter=tmp_path / "parent", run_folder=tmp_path / name,
            resume=resume,
        )  # fmt: skip
        return {name: tensor.detach().clone() for name, tensor in child.attachment.tensors.items()}

    whole = run("whole")
    with monkeypatch.context() as patch:
        killed_after(patch, 5)
        with pytest.raises(Killed):
            run("cut")
    assert equal(run("cut", resume=True), whole)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    with monkeypatch.context() as patch:
        killed_after(patch, 3)
        with pytest.raises(Killed):
            run("other")
    engine.train(tiny_base("encoder"), texts(), strategy=strategy, config=STILL).save(tmp_path / "parent")
    with pytest.raises(ConfigError, match="another run: from_adapter was"):
        run("other", resume=True)


@pytest.fixture(scope="module")
def parent(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parents") / "lora"
    engine.train(tiny_base("encoder"), texts(), settings={"rank": 4}, config=CONFIG).save(path)
    return path


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strategy": "prefix"}, "its strategy is lora, and prefix is asked for"),
        ({"settings": {"rank": 8}}, "its option rank is 4, and 8 is asked for"),
        (
            {"task_options": {"class_weights": "balanced"}},
            "its option class_weights is none, and balanced is asked for",
        ),
        ({"data": values}, "its task is text-classification, and text-regression is asked for"),
        ({"config": TrainConfig(steps=1, start_head="probe")}, "the head starts as it is in"),
        ({"base": 1}, "cannot be gone on with: the adapter was trained on another base"),
        ({"from_adapter": 5}, "from_adapter is a int"),
    ],
)
def test_a_run_that_does_not_go_on_is_refused(
    given: dict[str, Any], message: str, parent: Path, engine: Engine
) -> None:
    base, data = tiny_base("encoder", seed=given.pop("base", 0)), given.pop("data", texts)()
    with pytest.raises(ConfigError, match=message):
        engine.train(base, data, **{"config": CONFIG, "from_adapter": parent, **given})


def test_what_is_given_again_may_be_the_same(parent: Path, engine: Engine) -> None:
    engine.train(
        tiny_base("encoder"), texts(), strategy="lora", settings={"rank": 4}, config=STILL, from_adapter=parent
    )


def test_a_probe_has_nothing_to_go_on_with(engine: Engine, tmp_path: Path) -> None:
    base = tiny_base("encoder")
    engine.train(base, texts(), strategy="linear_probe").save(tmp_path / "probe")
    with pytest.raises(NotSupportedError, match="linear_probe finds its weights from all of the data at once"):
        engine.train(base, texts(), from_adapter=tmp_path / "probe")
    with pytest.raises(AdapterNotFoundError):
        engine.train(base, texts(), from_adapter=tmp_path / "nowhere")


def test_a_start_from_data_is_not_made_again(engine: Engine, tmp_path: Path) -> None:
    base, data = tiny_base("encoder"), texts()
    parent = engine.train(base, data, settings={"init": "eva", "rank": 4}, config=CONFIG)
    parent.save(tmp_path / "parent")
    before = outputs(parent, data.inputs[:4])
    child = engine.train(base, data, config=STILL, from_adapter=tmp_path / "parent")
    assert all(map(torch.equal, outputs(child, data.inputs[:4]), before))
