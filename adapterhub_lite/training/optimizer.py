"""The optimizer and the learning rate of each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adapterhub_lite.base.learning import Factors
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.training.config import TrainConfig

BITSANDBYTES = {"adamw_8bit": "AdamW8bit", "paged_adamw": "PagedAdamW32bit", "paged_adamw_8bit": "PagedAdamW8bit"}
# Arguments of transformers' schedules beside the warm-up and the number of steps.
ARGUMENTS: Mapping[str, dict[str, Any]] = {
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    "cosine_with_restarts": {"num_cycles": 3},
    "polynomial": {"power": 2.0, "lr_end": 0.0},
}
DECAY_SHARE = 0.2
"""Share of the steps at the end in which "warmup_stable_decay" goes down (Hu et al. 2024, arXiv:2404.06395)."""


def make_optimizer(
    parameters: Sequence[nn.Parameter],
    config: TrainConfig,
    rate: float,
    factors: Mapping[nn.Parameter, Factors] | None = None,
) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), or one of bitsandbytes (Dettmers et al. 2022, arXiv:2110.02861).

    Matrices decay and vectors do not. `factors` are what single parameters multiply rate and decay by; a group has that of
    the rate as "rate_factor".

    Raises:
        NotSupportedError: bitsandbytes is missing, or cannot run this optimizer on this device.
    """
    alike: dict[tuple[bool, Factors], list[nn.Parameter]] = {}
    for parameter in parameters:
        own = (factors or {}).get(parameter, Factors())
        alike.setdefault((parameter.dim() < 2, own), []).append(parameter)
    groups = [
        {
            "params": group,
            "weight_decay": 0.0 if is_vector else config.weight_decay * own.weight_decay,
            "lr": rate * own.learning_rate,
            "rate_factor": own.learning_rate,
        }
        for (is_vector, own), group in sorted(alike.items(), key=lambda item: item[0][0])
    ]
    if config.optimizer == "adamw":
        try:
            return torch.optim.AdamW(groups, lr=rate, fused=True)
        except RuntimeError:  # no fused kernel for this device or dtype
            return torch.optim.AdamW(groups, lr=rate)
    if config.optimizer.startswith("paged") and parameters[0].device.type == "cpu":
        raise NotSupportedError(
            f"optimizer '{config.optimizer}' moves its state between GPU and CPU, and this run is on the CPU alone; "
            "use --optimizer adamw or adamw_8bit"
        )
    try:
        import bitsandbytes
    except ImportError as error:
        raise NotSupportedError(
            f"optimizer '{config.optimizer}' needs bitsandbytes ({error}); pip install bitsandbytes, "
            "or use --optimizer adamw"
        ) from None
    made: Optimizer = getattr(bitsandbytes.optim, BITSANDBYTES[config.optimizer])(groups, lr=rate)
    return made


def learning_rates(config: TrainConfig, rate: float, total: int) -> Callable[[int], float]:
    """The learning rate of each step, counted from 1, by transformers' schedules.

    Theirs give the first step the rate 0; ours are shifted by one, so that every step has a rate above 0. The rate is a
    function of the step alone, so that there is no state to save.
    """
    from transformers import get_scheduler

    name = "constant_with_warmup" if config.schedule == "constant" else config.schedule
    more = dict(ARGUMENTS.get(name, {}))
    warmup = round(config.warmup * total)
    if name == "warmup_stable_decay":
        more["num_decay_steps"] = max(1, round(DECAY_SHARE * total))
    scheduler: Any = get_scheduler(
        name,
        torch.optim.SGD([torch.zeros(1)], lr=rate),
        num_warmup_steps=warmup + 1,
        num_training_steps=total + 1,
        scheduler_specific_kwargs=more,
    )
    factor = scheduler.lr_lambdas[0]
    return lambda step: rate * float(factor(step))


def optimizer_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, int | float]]:
    """The state of an optimizer, tensors and numbers apart, by `<parameter>/<name>`."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, int | float] = {}

    def collect(prefix: str, entries: Mapping[Any, Any]) -> None:
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}{name}"] = value
            elif isinstance(value, Mapping):  # bitsandbytes keeps what is quantized in a mapping of its own
                collect(f"{prefix}{name}/", value)
            else:
                numbers[f"{prefix}{name}"] = value

    collect("", optimizer.state_dict()["state"])
    return tensors, numbers


def set_optimizer_state(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, int | float]
) -> None:
    """Give a fresh optimizer on the same parameters what `optimizer_state` returned."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **numbers}.items():
        index, *path, name = key.split("/")
        entries = state.setdefault(int(index), {})
        for part in path:
            entries = entries.setdefault(part, {})
        entries[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
