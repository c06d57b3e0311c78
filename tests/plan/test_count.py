"""What is counted without computing is what a real step takes, and leaves everything as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch

from adapterhub_lite.base.loading import Base
from adapterhub_lite.plan.count import Count, count_run
from adapterhub_lite.plan.imagined import Imagined
from adapterhub_lite.plan.search import stretched
from adapterhub_lite.plan.storages import LiveStorages
from adapterhub_lite.testing.models import tiny_models
from adapterhub_lite.training.config import TrainConfig

MODELS = tiny_models()


def counted(
    engine: Any, base: Base, data: Any, live: LiveStorages, strategy: str, settings: Any = None, **options: Any
) -> Count:
    provided = engine.strategy_shelf.resolve(strategy)
    task = engine.task_for(base, data)
    examples = task.encode(data, base).examples[:6]
    run = TrainConfig(batch_size=len(examples), **options)
    config = engine.strategy_shelf.configure(provided, settings or {})
    return count_run(live, base, task, provided, config, examples, run)[0]


def both(engine: Any, model: str, strategy: str, quantization: str = "none", **options: Any) -> tuple[Count, Count]:
    """A real step's count, and one of a step that is not computed."""
    base = MODELS[model].base(quantization=quantization)
    real, imagined = (
        counted(engine, base, MODELS[model].problem(), live, strategy, **options)
        for live in (LiveStorages(), Imagined())
    )
    return real, imagined


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("strategy", ["lora", "prefix", "full"])
@pytest.mark.parametrize("model", ["decoder", "encoder"])
def test_it_is_what_a_real_step_takes(engine: Any, model: str, strategy: str, checkpointing: bool) -> None:
    real, imagined = both(engine, model, strategy, activation_checkpointing=checkpointing)
    # What the first attachment of a process makes once and keeps is a hundred bytes.
    assert asdict(imagined) == {name: pytest.approx(size, abs=200) for name, size in asdict(real).items()}
    assert real.activations > 0
    assert real.adapter > 0
    assert real.optimizer > 1.9 * real.adapter


@pytest.mark.parametrize(
    ("model", "strategy", "options"),
    [
        ("vision", "lora", {}),
        ("vision", "full", {}),
        ("series", "prefix", {}),
        ("conv1d", "lora", {}),
        ("encoder", "linear_probe", {}),
        ("decoder", "lora", {"quantization": "nf4"}),
        ("decoder", "lora", {"settings": {"dropout": 0.1}}),
        ("decoder", "lora", {"micro_batch_size": 2}),
        ("decoder", "full", {"settings": {"top_layers": 1}}),
    ],
)
def test_of_other_models_and_options_too(engine: Any, model: str, strategy: str, options: Any) -> None:
    real, imagined = both(engine, model, strategy, **options)
    assert imagined.peak == pytest.approx(real.peak, rel=1e-3)


@pytest.mark.parametrize("on_card", [False, True])
def test_more_rows_at_once_take_more(engine: Any, on_card: bool) -> None:
    base, data = MODELS["decoder"].base(), MODELS["decoder"].problem()
    provided, task = engine.strategy_shelf.resolve("lora"), engine.task_for(base, data)
    config = engine.strategy_shelf.configure(provided, {})
    rows = [stretched(example, 400) for example in task.encode(data, base).examples[:6]]
    peaks = [
        count_run(
            Imagined(),
            base,
            task,
            provided,
            config,
            rows,
            TrainConfig(batch_size=6, micro_batch_size=size),
            on_card=on_card,
        )[0].peak
        for size in (1, 2, 4)
    ]
    assert peaks[0] < peaks[1] < peaks[2]
    if on_card:
        assert (peaks[2] - peaks[1]) / (peaks[1] - peaks[0]) == pytest.approx(2, rel=0.1)


def test_nothing_is_computed_and_nothing_stays(engine: Any, bits: Callable[[Any], Any]) -> None:
    base, data = MODELS["decoder"].base(), MODELS["decoder"].problem()
    before, stream = bits(base.model), torch.get_rng_state()
    counted(engine, base, data, Imagined(), "full")
    assert bits(base.model) == before
    assert torch.equal(torch.get_rng_state(), stream)
    assert base.active is None


def test_a_tensor_that_is_never_touched_may_be_larger_than_the_machine() -> None:
    with Imagined() as live:
        product = torch.empty(1 << 20, 1 << 20) @ torch.empty(1 << 20, 1 << 10)
        del product
    assert live.peak == (1 << 42) + 2 * (1 << 32)


def test_whole_numbers_lead_where_they_would() -> None:
    with Imagined():
        ids = torch.tensor([[3, 1, 2], [5, 0, 0]])
        hidden = torch.randn(2, 3, 4)
        assert hidden[ids != 0].shape == (4, 4)
        assert int(ids.max()) == 5
        assert bool((ids == 5).any())
        assert float(hidden.sum()) == 1.0
        assert bool((hidden > 0).all())


def test_live_storages_are_counted_by_kind_and_once() -> None:
    with LiveStorages() as live:
        first = torch.zeros(100)
        live.kind = "more"
        view, second = first[10:], first + 1
        live.count_as(second, "other")
        del second
        third = view * 2
    assert third.nbytes == 360
    assert live.now == {"": 400, "more": 360, "other": 0}
    assert live.peak == 800
