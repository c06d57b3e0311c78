"""PEFT's variants of LoRA that need a loss of their own, or keep something while they train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from adapterhub_lite.api import ModelView, NotSupportedError, StrategyConfig, StrategyState
from adapterhub_peft.strategy import ADAPTER, MergeablePeftMethod

VARIANTS = ("kasa_config", "monteclora_config", "velora_config", "use_bdlora")
"""Options that put another kind of LoRA into the layers."""


class LoraVariants(MergeablePeftMethod):
    """LoRA with PEFT's options: KaSA and MonteCLoRA with what they add to the loss, VeLoRA with its projections."""

    def penalty(self, config: Any, parameters: Mapping[str, nn.Parameter]) -> Mapping[str, Tensor]:
        """What PEFT adds to the loss for KaSA and MonteCLoRA; nothing without them."""
        penalties = {}
        if "kasa_config" in _wanted(config):
            penalties["kasa"] = self._tuner._get_kasa_loss()
        if "monteclora_config" in _wanted(config):
            for sampler in self._samplers():
                _draw_again(sampler)
            penalties["monteclora"] = self._tuner._get_monteclora_loss()
        return penalties

    def state(self) -> StrategyState:
        """VeLoRA's projections, which the first batch decides."""
        fixed, tensors, ready = super().state(), {}, []
        for path, layer in self._velora():
            tensors[f"velora.{path}"] = layer.lora_velora_embed[ADAPTER]
            ready += [path] if layer.lora_velora_initialized[ADAPTER] else []
        return StrategyState({**fixed.tensors, **tensors}, {"velora": ready} if tensors else {}, fixed.in_file)

    def load_state(self, state: StrategyState) -> None:
        """Go on from a checkpoint."""
        super().load_state(state)
        for path, layer in self._velora() if state.values else ():
            own = layer.lora_velora_embed[ADAPTER]
            layer.lora_velora_embed[ADAPTER] = state.tensors[f"velora.{path}"].to(own, copy=True)
            layer.lora_velora_initialized[ADAPTER] = path in state.values["velora"]

    def attach(self, view: ModelView, config: StrategyConfig) -> Mapping[str, nn.Parameter]:
        """Let PEFT put its layers in place of the targets.

        Raises:
            NotSupportedError: as for any method; and a variant that PEFT leaves out of some layers without a word.
        """
        parameters = super().attach(view, config)
        wanted = _wanted(config)
        plain = [p for p, m in self._tuner.model.named_modules() if isinstance(m, LoraLayer) and not m.lora_variant]
        if wanted and plain:
            kind = type(view.module(f"{plain[0]}.base_layer")).__name__
            raise NotSupportedError(
                f"{self.name}: PEFT has no {wanted[0]} for '{plain[0]}' ({kind}); leave it out, or use an unquantized base or "
                "other targets"
            )
        return parameters

    def _put_in(self, view: ModelView, peft_config: Any) -> None:
        for sampler in self._samplers():
            # A buffer of one sample that is used up: each is drawn when it is needed, from the random numbers of the run,
            # so that a run that is resumed, or a layer that is computed again, draws the same ones.
            sampler.sampler.index = sampler.sampler.buffer_size

    def _arguments_of(self, view: ModelView, options: dict[str, Any]) -> dict[str, Any]:
        arguments = super()._arguments_of(view, options)
        if arguments.get("monteclora_config") is not None:
            arguments["monteclora_config"] = {**arguments["monteclora_config"], "buffer_size": 1}
        return arguments

    def _samplers(self) -> Iterator[Any]:
        """What draws MonteCLoRA's samples, layer by layer."""
        for layer in self._tuner.modules():
            yield from getattr(layer, "lora_monteclora_sampler", {}).values()

    def _velora(self) -> Iterator[tuple[str, Any]]:
        """Layers of VeLoRA, by path."""
        for path, layer in self._tuner.model.named_modules():
            if hasattr(layer, "lora_velora_embed"):
                yield path, layer


def _wanted(config: StrategyConfig) -> list[str]:
    """The variants that are asked for, of those that the installed PEFT has."""
    return [name for name in VARIANTS if getattr(config, name, None) is not None]


def _draw_again(sampler: Any) -> None:
    """Compute covariance and weights of the sample that was drawn last once more, with their graph.

    PEFT's loss is a function of them, and the graph of the batch is gone when the penalty is due.
    """
    prior = sampler.std_prior
    sample = {name: drawn.to(prior) for name, drawn in sampler.sampler.buffer[0].items()}
    sampler.gaussian_var_prior = sampler.wishart_reparameterization(torch.diag(torch.exp(prior)), sample["z_wishart"])
    alpha = torch.exp(sampler.expert_weights_prior)
    sampler.expert_weights = torch.softmax(sampler.dirichlet_reparameterization(alpha, sample["z_dirichlet"]), dim=-1)
