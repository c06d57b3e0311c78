"""What a program gets wrong in a call: refused by name, before anything is computed, and never answered with nonsense."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adapterhub_causal_lm.tiny import completions
from adapterhub_images.tiny import halves
from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.data.sampling import subsample
from adapterhub_lite.data.splits import split
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import AdapterHubError, ConfigError, DataError, NotSupportedError
from adapterhub_lite.plugins.spec import StrategyConfig
from adapterhub_lite.tasks.text import reach
from adapterhub_lite.testing import tiny_base
from adapterhub_lite.training.config import TrainConfig
from adapterhub_series.tiny import waves
from adapterhub_text.tiny import texts

HALF = "good \ud83d"
"""Half a surrogate pair, as JSON may have it."""


@pytest.fixture(scope="module")
def words(engine: Engine) -> Adapter:
    return engine.train(tiny_base("encoder"), texts(), strategy="linear_probe")


@pytest.fixture(scope="module")
def writer(engine: Engine) -> Adapter:
    return engine.train(tiny_base("decoder"), completions(), strategy="lora", config=TrainConfig(steps=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"max_new_tokens": wrong}, "max_new_tokens is") for wrong in (0, -3, 1.5, True, "4")),
        *(({"temperature": wrong}, "temperature is") for wrong in (-1.0, float("nan"), float("inf"), 1e-30, "1", True)),
        *(({"seed": wrong}, "seed is") for wrong in (-1, 2**64, 1.5, None)),
        *(({"top_p": wrong}, "top_p is") for wrong in (0, 1.5, "1", True)),
        *(({"top_k": wrong}, "top_k is") for wrong in (0, 1.5, False)),
        *(({"repetition_penalty": wrong}, "repetition_penalty is") for wrong in (0, -1.0, float("nan"))),
        *(({"stop": wrong}, "stop") for wrong in ("word", [""], [1])),
        ({"top": 1}, "top is"),
    ],
)
def test_options_of_generate(options: dict[str, Any], message: str, writer: Adapter) -> None:
    with pytest.raises(ConfigError, match=message):
        writer.generate("one two", **options)


@pytest.mark.parametrize("prompt", [None, 5, b"one", {"prompt": "one", "completion": "two"}, HALF])
def test_what_is_no_prompt(prompt: Any, writer: Adapter) -> None:
    with pytest.raises(ConfigError, match="the prompt"):
        writer.generate(prompt)


@pytest.mark.parametrize("wrong", [None, 5, b"one", {"prompt": "one"}, ["one"], HALF])
def test_what_is_no_prompt_in_a_list(wrong: Any, writer: Adapter) -> None:
    with pytest.raises(ConfigError, match="prompt 2: the prompt"):
        writer.generate(["one", wrong])


def test_an_answer_ends_where_the_base_does(writer: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    generate = writer.base.model.generate

    def watched(**given: Any) -> Any:
        asked.append(given["input_ids"].shape[1] + given["max_new_tokens"])
        return generate(**given)

    monkeypatch.setattr(writer.base.model, "generate", watched)
    reads = reach(writer.base)
    writer.generate("one two", max_new_tokens=reads + 50)
    assert asked == [reads]
    with pytest.raises(DataError, match=rf"the prompt has \d+ tokens, and .* reads {reads} with the answer"):
        writer.generate("one " * reads)
    assert len(asked) == 1


def test_texts_that_hold_no_characters(words: Adapter, engine: Engine) -> None:
    with pytest.raises(ConfigError, match="input 2 holds half of a surrogate pair"):
        words.predict(["good", HALF])
    rows = [{"words": ["one", "two"], "tags": ["O", "B-X"]}, {"words": ["two"], "tags": ["B-X"]}]
    data = engine.load_data(rows, "token-classification")
    tags = engine.train(tiny_base("encoder"), data, strategy="linear_probe")
    with pytest.raises(ConfigError, match="input 1 holds half of a surrogate pair"):
        tags.predict([["one", HALF]])


def test_outputs_that_are_not_finite_are_no_prediction(words: Adapter, engine: Engine) -> None:
    series = engine.train(tiny_base("series"), waves(), strategy="linear_probe")
    steps = np.asarray(waves().inputs[0])
    with pytest.raises(DataError, match="input 2: the model's outputs for it are not finite"):
        series.predict([steps, steps * np.float32(1e38)])
    assert words.attachment.head is not None
    with torch.no_grad():
        kept = words.attachment.head.weight.clone()
        words.attachment.head.weight[0, 0] = float("nan")
    try:
        with pytest.raises(DataError, match="the loss on it is nan"):
            words.evaluate(texts())
    finally:
        with torch.no_grad():
            words.attachment.head.weight.copy_(kept)


def test_complex_numbers_are_no_series(engine: Engine) -> None:
    series = engine.train(tiny_base("series"), waves(), strategy="linear_probe")
    with pytest.raises(ConfigError, match="complex numbers have two parts"):
        series.predict([np.asarray(waves().inputs[0]) + 1j])


def test_images_that_cannot_be_read(engine: Engine, tmp_path: Path) -> None:
    adapter = engine.train(tiny_base("vision"), halves(), strategy="linear_probe")
    gone = Image.new("RGB", (8, 8))
    gone.close()
    for wrong in (np.zeros((0, 0, 3), np.uint8), str(tmp_path / "nowhere.png"), gone):
        for keep in (False, True):
            with pytest.raises(DataError):
                adapter.predict([wrong], keep_features=keep)


def test_images_of_other_palettes_are_other_images(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their indices are the same, and those are all that an array of the image holds."""
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path))
    adapter = engine.train(tiny_base("vision"), halves(), strategy="linear_probe")
    indices = Image.fromarray(np.random.default_rng(0).integers(0, 2, (32, 32), dtype=np.uint8), "L")
    pair = []
    for palette in ([255, 0, 0, 0, 0, 0], [0, 0, 255, 255, 255, 0]):
        image = indices.convert("P")
        image.putpalette(palette)
        pair.append(image)
    alone = [adapter.predict([image])[0].probabilities for image in pair]
    kept = [adapter.predict([image], keep_features=True)[0].probabilities for image in pair]
    assert kept[0] != kept[1]
    assert kept == [pytest.approx(one) for one in alone]


@pytest.mark.parametrize("switch", [torch.no_grad, torch.inference_mode])
def test_training_without_gradients(switch: Any, engine: Engine) -> None:
    base = tiny_base("encoder")
    with switch(), pytest.raises(ConfigError, match="training needs gradients"):
        engine.train(base, texts(), strategy="lora", config=TrainConfig(steps=1))
    assert base.active is None


def test_another_default_dtype(engine: Engine) -> None:
    base = tiny_base("encoder")
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ConfigError, match=r"torch's default dtype is torch\.float64"):
            engine.train(base, texts(), strategy="lora", config=TrainConfig(steps=1))
    finally:
        torch.set_default_dtype(torch.float32)


def test_bases_and_paths(trained: Path, references: Any, words: Adapter, engine: Engine, tmp_path: Path) -> None:
    base = references("tiny-bert")
    assert engine.load_adapter(trained, base=Path(base), device="cpu").labels == ("bad", "good")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="base is a int; give a loaded base, or its reference"):
        engine.load_adapter(trained, base=5)  # type: ignore[arg-type]
    for path, keep in ((None, 5), (tmp_path / "a", "3"), (tmp_path / "a", -1), (tmp_path / "a", 1.5)):
        with pytest.raises(ConfigError, match="save takes a path and a number of versions"):
            words.save(path, keep=keep)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_rows_that_were_read_for_another_task(words: Adapter, engine: Engine) -> None:
    rows = [{"text": "good one", "target": 0.5}, {"text": "three bad", "target": 2.0}]
    numbers = engine.load_data(rows, "text-regression")
    tags = engine.load_data([{"words": ["one", "two"], "tags": ["O", "B-X"]}], "token-classification")
    lists = [{"text": "good", "labels": ["yes", "no"]}, {"text": "bad", "labels": ["no"]}]
    several = engine.load_data(lists, "text-classification", labels=words.labels, columns={"labels": "labels"})
    for data in (numbers, tags, several, halves(), waves(), completions()):
        for use in (words.predict, words.evaluate):
            with pytest.raises(ConfigError, match=r"was read for .*, and this adapter is for text-classification"):
                use(data)
    with pytest.raises(ConfigError, match="and eval_data for text-regression"):
        engine.train(tiny_base("encoder"), texts(), eval_data=numbers, config=TrainConfig(steps=1))
    fitted = engine.train(tiny_base("encoder"), numbers, strategy="linear_probe")
    with pytest.raises(ConfigError, match="was read for text-classification"):
        fitted.evaluate(texts())


def test_arguments_of_other_kinds(engine: Engine) -> None:
    calls: list[tuple[Any, dict[str, Any], str]] = [
        (engine.load_base, {"reference": 5}, "the base is a int"),
        (engine.load_base, {"reference": "a", "quantization": 4}, "there is no quantization '4'"),
        (engine.load_data, {"source": [], "task": None}, "the task is a NoneType"),
        (engine.load_data, {"source": [], "task": "text-classification", "columns": ["text"]}, "columns is"),
        (engine.load_data, {"source": [], "task": "text-classification", "columns": {"text": None}}, "columns is"),
    ]
    run = {"base": tiny_base("encoder"), "data": texts()}
    for wrong, message in (
        ({"strategy": 5}, "the strategy is a int"),
        ({"settings": "rank=4"}, "options are a str"),
        ({"config": {"steps": 1}}, "config is a dict"),
        ({"resume": True}, "say which folder"),
        ({"run_folder": 5}, "run_folder is a int"),
    ):
        calls.append((engine.train, {**run, **wrong}, message))
    calls.append((subsample, {"dataset": texts(), "shots": 1.5}, "give at least 1 row"))
    for call, given, message in calls:
        with pytest.raises(AdapterHubError, match=message):
            call(**given)


def test_the_bare_base_stays_bare_whoever_predicts(engine: Engine) -> None:
    base = tiny_base("encoder")
    one, other = (engine.train(base, texts(), strategy="lora", config=TrainConfig(steps=1)) for _ in range(2))
    for adapter in (one, other):
        with one.disabled():
            adapter.predict(["one good"])
            adapter.evaluate(texts())
            assert base.active is None
        assert base.active is one.attachment.view
    other.predict(["one good"])
    assert base.active is other.attachment.view


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy, copy.copy])
def test_a_base_is_not_copied(copied: Any, words: Adapter) -> None:
    with pytest.raises(NotSupportedError, match="save the adapter and load it"):
        copied(words.base)
    if copied is not copy.copy:
        with pytest.raises(NotSupportedError, match="save the adapter and load it"):
            copied(words)


def test_true_and_infinite_are_no_numbers() -> None:
    class Options(StrategyConfig):
        rank: int = 8
        alpha: float | None = None
        fast: bool = False

    assert Options(fast=True).fast
    for wrong in ({"rank": True}, {"alpha": False}, {"alpha": float("inf")}, {"alpha": float("nan")}):
        with pytest.raises(ValueError, match="number"):
            Options(**wrong)
    for wrong in ({"steps": True}, {"learning_rate": True}, {"seed": False}):
        with pytest.raises(ConfigError, match="not yes or no"):
            TrainConfig(**wrong)


def test_what_is_no_data_set_is_not_split() -> None:
    for take in (split, subsample):
        with pytest.raises(ConfigError, match="takes a data set from load_data, not str"):
            take("x", fraction=0.5)  # type: ignore[operator]
