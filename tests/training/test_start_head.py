"""LP-FT: training starts where the linear probe ends."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

import adapterhub_full
import adapterhub_linear_probe
import adapterhub_lite as ah
import adapterhub_text
from adapterhub_lite.api import StrategyConfig, StrategySpec, hookimpl
from adapterhub_lite.errors import ConfigError, NotSupportedError, StrategyNotFoundError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.shelf import strategy_shelf
from adapterhub_lite.plugins.spec import OURS
from adapterhub_lite.progress import Silent
from adapterhub_lite.training.solve import find_solver

from .test_resume import Killed, killed_after

WORDS = ["good", "bad", "fine", "awful"]
ROWS = {
    "text": [f"{word} number {i}" for i in range(6) for word in WORDS],
    "label": ["yes" if word in ("good", "fine") else "no" for _ in range(6) for word in WORDS],
}


@pytest.mark.parametrize("strategy", ["lora", "full"])
def test_a_run_that_hardly_moves_predicts_what_the_probe_predicts(references, strategy):
    engine = ah.Engine(progress=Silent())
    base = engine.load_base(references("tiny-bert"), dtype="float32")
    data = engine.load_data(ROWS, "text-classification")
    probe = engine.train(base, data, strategy="linear_probe")
    still = ah.TrainConfig(steps=1, learning_rate=1e-12, start_head="probe")
    tuned = engine.train(base, data, strategy=strategy, config=still)
    wanted = torch.tensor([list(p.probabilities.values()) for p in probe.predict(ROWS["text"])])
    tuned_outputs = torch.tensor([list(p.probabilities.values()) for p in tuned.predict(ROWS["text"])])
    assert float((wanted - tuned_outputs).abs().max()) < 1e-5
    assert float(wanted.std()) > 0.1  # the probe says something
    random = engine.train(base, data, strategy=strategy, config=still.model_copy(update={"start_head": "random"}))
    other = torch.tensor([list(p.probabilities.values()) for p in random.predict(ROWS["text"])])
    assert float((wanted - other).abs().max()) > 1e-2


def test_the_probe_is_kept_where_no_step_beats_it_and_after_a_kill_as_well(references, tmp_path, monkeypatch):
    engine = ah.Engine(progress=Silent())
    base = engine.load_base(references("tiny-bert"), dtype="float32", device="cpu")
    data = engine.load_data(ROWS, "text-classification")
    probe = engine.train(base, data, strategy="linear_probe", hold_out=0.25)
    wild = ah.TrainConfig(steps=6, learning_rate=0.5, start_head="probe", eval_every=2, checkpoint_every=3)

    def train(name: str, resume: bool = False) -> ah.Adapter:
        return engine.train(base, data, config=wild, hold_out=0.25, run_folder=tmp_path / name, resume=resume)

    whole = train("whole")
    assert whole.training["best_step"] == 0
    assert whole.metrics["loss"] == pytest.approx(probe.metrics["loss"], abs=1e-5)
    for cut in (1, 4):
        with monkeypatch.context() as patch:
            killed_after(patch, cut)
            with pytest.raises(Killed):
                train(f"cut-{cut}")
        resumed = train(f"cut-{cut}", resume=True)
        assert resumed.metrics == whole.metrics
        assert resumed.notes == whole.notes
        lines = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in (f"cut-{cut}", "whole")]
        assert lines[0] == lines[1]


def test_a_language_model_has_no_head_to_start(references):
    engine = ah.Engine(progress=Silent())
    data = engine.load_data({"text": ["one two three"]}, "causal-lm")
    config = ah.TrainConfig(steps=1, start_head="probe")
    with pytest.raises(NotSupportedError, match="has none"):
        engine.train(engine.load_base(references("tiny-gpt2")), data, strategy="lora", config=config)


def plugin(name: str, load: Any) -> ModuleType:
    """A plug-in with one strategy."""
    module = ModuleType(f"plugin_{name}")

    @hookimpl
    def adapterhub_strategies() -> list[StrategySpec]:
        return [StrategySpec(name, "Of a stranger.", StrategyConfig, load)]

    module.adapterhub_strategies = adapterhub_strategies  # type: ignore[attr-defined]
    return module


class Constant:
    """Answers 'yes', whatever it is asked."""

    def attach(self, view, config):
        return {}

    def solve(self, view, config, parameters, problem):
        with torch.no_grad():
            problem.head.weight.zero_()
            problem.head.bias.copy_(torch.tensor([0.0, 9.0]))
        return {}


def test_whatever_solves_fits_the_head_and_ours_goes_first(references):
    plugins = Plugins(enabled=False)
    plugins.register(adapterhub_full, dist=OURS)
    plugins.register(adapterhub_text, dist=OURS)
    with pytest.raises(StrategyNotFoundError, match="no installed strategy fits a head"):
        find_solver(strategy_shelf(plugins))
    plugins.register(plugin("constant", Constant))
    engine = ah.Engine(plugins, Silent())
    still = ah.TrainConfig(steps=1, learning_rate=1e-12, start_head="probe")
    base, data = (
        engine.load_base(references("tiny-bert"), dtype="float32"),
        engine.load_data(ROWS, "text-classification"),
    )
    tuned = engine.train(base, data, strategy="full", config=still)
    assert {prediction.label for prediction in tuned.predict(ROWS["text"])} == {"yes"}
    plugins.register(adapterhub_linear_probe, dist=OURS)
    assert find_solver(strategy_shelf(plugins))[0].spec.name == "linear_probe"


def test_a_strategy_that_does_not_load_is_passed_over_and_named():
    def broken() -> Any:
        raise ImportError("no such library")

    plugins = Plugins(enabled=False)
    plugins.register(plugin("broken", broken))
    plugins.register(plugin("constant", Constant))
    with pytest.warns(RuntimeWarning, match="'broken'.*no such library; going on without it"):
        assert find_solver(strategy_shelf(plugins))[0].spec.name == "constant"


def test_a_penalty_for_a_probe_that_is_not_asked_for_is_refused(train):
    with pytest.raises(ConfigError, match="--start-head probe"):
        train(start_penalty=0.1)
