"""Optimizers and schedules against closed forms and torch's own."""

from __future__ import annotations

import math

import pytest
import torch

from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.optimizer import learning_rates, make_optimizer, optimizer_state, set_optimizer_state

TOTAL, WARMUP = 50, 5


def left(step: int) -> float:
    """Share of the way down that is left before a step, counted from 1."""
    return (TOTAL + 1 - step) / (TOTAL - WARMUP)


SHAPES = {
    "linear": left,
    "cosine": lambda step: 0.5 * (1 + math.cos(math.pi * (1 - left(step)))),
    "constant": lambda step: 1.0,
    "polynomial": lambda step: left(step) ** 2,
    "inverse_sqrt": lambda step: math.sqrt((WARMUP + 1) / step),
    "cosine_with_min_lr": lambda step: 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (1 - left(step)))),
    "cosine_with_restarts": lambda step: 0.5 * (1 + math.cos(math.pi * ((3 * (1 - left(step))) % 1))),
    "warmup_stable_decay": lambda step: (
        1.0 if step <= TOTAL + 1 - 10 else 0.5 * (1 + math.cos(math.pi * (step - (TOTAL + 1 - 10)) / 10))
    ),
}


@pytest.mark.parametrize("schedule", SHAPES)
def test_schedules_are_their_formulas_and_no_step_is_for_nothing(schedule):
    rate_at = learning_rates(TrainConfig(schedule=schedule, warmup=WARMUP / TOTAL), 0.3, TOTAL)
    for step in range(1, TOTAL + 1):
        expected = step / (WARMUP + 1) if step <= WARMUP else SHAPES[schedule](step)
        assert rate_at(step) == pytest.approx(0.3 * expected, abs=1e-12), step
        assert rate_at(step) > 0


@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize("schedule", SHAPES)
def test_the_shortest_runs_learn_something(schedule, total):
    rate_at = learning_rates(TrainConfig(schedule=schedule), 0.3, total)
    assert rate_at(1) == pytest.approx(0.3)


def parameters():
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(8, 4)), torch.nn.Parameter(torch.randn(4))]


def test_adamw_is_its_formula_and_decays_matrices_alone():
    ours, (matrix, bias) = parameters(), [p.detach().double() for p in parameters()]
    optimizer = make_optimizer(ours, TrainConfig(weight_decay=0.1), 0.01)
    assert optimizer.param_groups[0]["fused"]
    means = {id(matrix): [0.0, 0.0], id(bias): [0.0, 0.0]}
    for step in range(1, 6):
        for parameter, value, decay in zip(ours, (matrix, bias), (0.1, 0.0), strict=True):
            parameter.grad = torch.sin(parameter.detach() * step)
            gradient = torch.sin(parameter.detach() * step).double()
            first, second = means[id(value)]
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            means[id(value)] = [first, second]
            value *= 1 - 0.01 * decay
            value -= 0.01 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        optimizer.step()
    assert torch.allclose(ours[0].detach().double(), matrix, atol=1e-6)
    assert torch.allclose(ours[1].detach().double(), bias, atol=1e-6)


def test_8_bits_stay_close_to_32_and_take_a_quarter_of_the_memory():
    torch.manual_seed(0)
    start = torch.randn(128, 128)
    ended, sizes = [], []
    for name in ("adamw", "adamw_8bit"):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = make_optimizer([parameter], TrainConfig(optimizer=name), 0.01)
        for step in range(1, 21):
            parameter.grad = torch.cos(parameter.detach() * step)
            optimizer.step()
        tensors, _ = optimizer_state(optimizer)
        sizes.append(sum(t.numel() * t.element_size() for t in tensors.values() if t.numel() > 1))
        ended.append(parameter.detach())
    moved = float((ended[0] - start).norm())
    assert float((ended[1] - ended[0]).norm()) < 0.1 * moved
    assert sizes[1] < 0.3 * sizes[0]


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit"])
def test_the_state_of_an_optimizer_goes_on_in_the_same_bits(name):
    def stepped(parameter, optimizer, numbers):
        for number in numbers:
            parameter.grad = torch.cos(parameter.detach() * number)
            optimizer.step()

    torch.manual_seed(0)
    start = torch.randn(96, 96)
    config = TrainConfig(optimizer=name)
    whole = torch.nn.Parameter(start.clone())
    stepped(whole, make_optimizer([whole], config, 0.01), range(6))
    first = torch.nn.Parameter(start.clone())
    optimizer = make_optimizer([first], config, 0.01)
    stepped(first, optimizer, range(3))
    tensors, numbers = optimizer_state(optimizer)
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    second = torch.nn.Parameter(first.detach().clone())
    fresh = make_optimizer([second], config, 0.01)
    set_optimizer_state(fresh, tensors, numbers)
    stepped(second, fresh, range(3, 6))
    assert torch.equal(second, whole)


@pytest.mark.parametrize("name", ["paged_adamw", "paged_adamw_8bit"])
def test_paged_optimizers_are_refused_on_the_cpu(name):
    with pytest.raises(NotSupportedError, match=rf"'{name}'.*on the CPU alone; use --optimizer adamw or adamw_8bit"):
        make_optimizer(parameters(), TrainConfig(optimizer=name), 0.01)


def test_options_that_make_no_sense_together(train):
    with pytest.raises(ConfigError, match="--eval-every needs held-out data"):
        train(eval_every=2)
    with pytest.raises(ConfigError, match="--patience counts evaluations"):
        train(patience=2)
