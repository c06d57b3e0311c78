"""Methods of PEFT that decide while they are trained which of their parts are worth keeping."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.api import ConfigError, ModelView, StrategyConfig, StrategyState
from adapterhub_peft.strategy import ADAPTER, MergeablePeftMethod

IMPORTANCE, UNCERTAINTY = "importance.", "uncertainty."
"""What the names of PEFT's two moving averages begin with, in a checkpoint."""


class AdaLora(MergeablePeftMethod):
    """AdaLoRA (Zhang et al. 2023, arXiv:2303.10512): ranks fall from init_r to target_r on average, where they matter least.

    PEFT's `RankAllocator` scores singular values after each update, and sets the lowest to zero. A file has those that are
    left, and its `rank_pattern` says which they are.
    """

    _settled = False
    """The ranks are final."""

    def penalty(self, config: Any, parameters: Mapping[str, nn.Parameter]) -> Mapping[str, Tensor]:
        """How far singular vectors are from being orthonormal: the mean of |A A^T - I| and |B^T B - I| over all layers."""
        grams = [p @ p.T for name, p in parameters.items() if name.endswith("lora_A")]
        grams += [p.T @ p for name, p in parameters.items() if name.endswith("lora_B")]
        norms = [torch.linalg.norm(gram - torch.eye(len(gram), device=gram.device)) for gram in grams]
        return {"orthogonality": config.orth_reg_weight * torch.stack(norms).mean()}

    def after_step(
        self, view: ModelView, config: Any, parameters: Mapping[str, nn.Parameter], step: int, total: int
    ) -> None:
        """Score singular values, and cut ranks where that is due.

        Raises:
            ConfigError: a schedule that does not fit into the run, or that would not lower the ranks.
        """
        if config.rank_pattern is not None:
            return
        plan = self._tuner.peft_config[ADAPTER]
        plan.total_step = config.total_step or total
        final = plan.total_step - plan.tfinal
        if config.target_r >= config.init_r:
            raise ConfigError(
                f"{self.name}: ranks fall from init_r={config.init_r} to target_r={config.target_r}, which has to be lower"
            )
        if config.tinit >= final:
            raise ConfigError(
                f"{self.name}: of {plan.total_step} steps, tinit={config.tinit} and tfinal={config.tfinal} leave none in which "
                "ranks fall; lower them, or train for more steps"
            )
        for (
            parameter
        ) in parameters.values():  # PEFT wants a gradient of each, of layers that a batch does not reach too
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if step >= final and not self._settled and not self._tuner.rankallocator.exp_avg_ipt:
            return  # PEFT scores before the last cut alone, and a run of one step has no step before it
        # The step of the last cut may have been left out, because its loss was not finite: it is made up for.
        self._tuner.update_and_allocate(step if self._settled else min(step, final))
        self._settled = step >= final

    def state(self) -> StrategyState:
        """The averages by which singular values are scored, and which of them are left."""
        allocator, plan, fixed = self._tuner.rankallocator, self._tuner.peft_config[ADAPTER], super().state()
        tensors = {IMPORTANCE + name: average for name, average in allocator.exp_avg_ipt.items()}
        tensors |= {UNCERTAINTY + name: average for name, average in allocator.exp_avg_unc.items()}
        values = {"rank_pattern": plan.rank_pattern, "total_step": plan.total_step, "settled": self._settled}
        return StrategyState({**fixed.tensors, **tensors}, values, fixed.in_file)

    def load_state(self, state: StrategyState) -> None:
        """Go on from a checkpoint."""
        super().load_state(state)
        if not state.values:
            return  # what is in an adapter's file has been loaded
        allocator, plan = self._tuner.rankallocator, self._tuner.peft_config[ADAPTER]
        device = next(self._tuner.parameters()).device
        allocator.reset_ipt()
        for start, averages in ((IMPORTANCE, allocator.exp_avg_ipt), (UNCERTAINTY, allocator.exp_avg_unc)):
            names = [name for name in state.tensors if name.startswith(start)]
            averages.update({name.removeprefix(start): state.tensors[name].to(device) for name in names})
        allocator.ipt.update(allocator.exp_avg_ipt)  # for its names alone: the next step computes the values
        plan.rank_pattern, plan.total_step = state.values["rank_pattern"], state.values["total_step"]
        self._settled = state.values["settled"]

    def export(
        self, view: ModelView, config: StrategyConfig, tensors: Mapping[str, Tensor]
    ) -> tuple[StrategyConfig, Mapping[str, Tensor]]:
        """Leave out singular values that were cut, with their vectors, as PEFT does.

        One that has a value again, in an adapter of a step between two cuts or in an average over steps, stays.
        """
        config, tensors = super().export(view, config, tensors)
        plan, settings = self._tuner.peft_config[ADAPTER], config.model_dump()
        if settings["rank_pattern"] is not None or plan.rank_pattern is None:
            return config, tensors
        kept, saved = {}, dict(tensors)
        for name, pattern in plan.rank_pattern.items():
            short = name.removesuffix(f".{ADAPTER}")
            values = f"base_model.model.{short}"
            left = torch.tensor(pattern) | (tensors[values] != 0).flatten().cpu()
            kept[short] = left.tolist()
            right, upper = (values.removesuffix("lora_E") + factor for factor in ("lora_A", "lora_B"))
            saved |= {values: tensors[values][left], right: tensors[right][left], upper: tensors[upper][:, left]}
        return config.model_copy(update={"rank_pattern": kept, "total_step": plan.total_step}), saved

    def peft_config(self, view: ModelView, config: Any) -> Mapping[str, Any]:
        """PEFT's own configuration, with the ranks of the file."""
        pattern = {"rank_pattern": config.rank_pattern, "total_step": _steps(config.model_dump())}
        return {**super().peft_config(view, config), **pattern}

    def _arguments_of(self, view: ModelView, options: dict[str, Any]) -> dict[str, Any]:
        return super()._arguments_of(view, options) | {"total_step": _steps(options)}

    def _put_in(self, view: ModelView, peft_config: Any) -> None:
        if peft_config.rank_pattern is not None:
            self._tuner.resize_modules_by_rank_pattern(peft_config.rank_pattern, ADAPTER)

    def _file(self, peft_config: Any) -> dict[str, Tensor]:
        whole = copy.copy(peft_config)
        whole.rank_pattern = None  # layers have the shapes of the file already
        return super()._file(whole)


def _steps(options: Mapping[str, Any]) -> int:
    """Steps of the schedule; before they are known, as many as PEFT accepts."""
    return int(options["total_step"] or options["tinit"] + options["tfinal"] + 1)


class AdaMss(MergeablePeftMethod):
    """AdaMSS: with `use_asa`, the subspaces that matter least stop training, until asa_target_subspaces are left."""

    def after_step(
        self, view: ModelView, config: Any, parameters: Mapping[str, nn.Parameter], step: int, total: int
    ) -> None:
        """Score subspaces, and stop those that score lowest where that is due.

        Raises:
            ConfigError: a schedule by which none is stopped in this run, or all of them are.
        """
        if not config.use_asa:
            return
        last = min(total, config.final_warmup)
        if last // config.mask_interval * config.mask_interval < max(1, config.init_warmup):
            raise ConfigError(
                f"{self.name}: use_asa stops subspaces at multiples of mask_interval={config.mask_interval} from step "
                f"init_warmup={config.init_warmup} to {last}, and there are none; lower these, or train for more steps"
            )
        self._tuner.update_and_allocate(step)
        if not any(parameter.requires_grad for parameter in parameters.values()):
            raise ConfigError(
                f"{self.name}: asa_target_subspaces={config.asa_target_subspaces} has stopped every subspace at step {step}; "
                "set a larger one"
            )

    def state(self) -> StrategyState:
        """The averages by which subspaces are scored, and which of them have stopped."""
        fixed, tensors, values = super().state(), {}, dict[str, list[str]](scored=[], stopped=[])
        for name, averages, place, parameter in self._averages():
            average = averages[place]
            tensors[name] = torch.zeros_like(parameter) if average is None else average
            values["scored"] += [] if average is None else [name]
            values["stopped"] += [] if parameter.requires_grad else [name]
        return StrategyState({**fixed.tensors, **tensors}, values, fixed.in_file)

    def load_state(self, state: StrategyState) -> None:
        """Go on from a checkpoint."""
        super().load_state(state)
        for name, averages, place, parameter in self._averages() if state.values else ():
            average = state.tensors[name].detach().to(parameter.device, copy=True)
            averages[place] = average if name in state.values["scored"] else None
            parameter.requires_grad_(name not in state.values["stopped"])

    def _averages(self) -> Iterator[tuple[str, list[Tensor | None], int, nn.Parameter]]:
        """Each average by its name in a checkpoint: the list it is kept in, its place there, and the parameter it is of."""
        for path, layer in self._tuner.model.named_modules():
            if not hasattr(layer, "exp_avg_ipt_A"):
                continue
            for factor, kind in ((factor, kind) for factor in "AB" for kind in ("ipt", "unc")):
                averages = getattr(layer, f"exp_avg_{kind}_{factor}").get(ADAPTER, [])  # there are none without use_asa
                for place in range(len(averages)):
                    parameter = getattr(layer, f"adamss_{factor}")[ADAPTER][place]
                    yield f"{kind}_{factor}.{path}.{place}", averages, place, parameter
