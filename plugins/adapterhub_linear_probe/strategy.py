"""The half of the linear probe that needs torch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from adapterhub_linear_probe import LinearProbeConfig
from adapterhub_linear_probe.classifier import fit_head
from adapterhub_linear_probe.translator import fit_translator
from adapterhub_lite.api import FeatureProblem, ModelView


class LinearProbe:
    """For a task with a head this head; for a language model an affine map in front of its frozen output layer.

    The latter is the translator of the tuned lens (Belrose et al. 2023, arXiv:2303.08112) on the last layer: a full new
    output layer would be as large as the vocabulary, this one is hidden_size squared.
    """

    def attach(self, view: ModelView, config: LinearProbeConfig) -> Mapping[str, nn.Parameter]:
        if not view.generates or view.map.output is None:
            return {}
        size = view.map.hidden_size
        weight = nn.Parameter(torch.zeros(size, size, device=view.device))
        bias = nn.Parameter(torch.zeros(size, device=view.device))

        def translate(hidden: Tensor) -> Tensor:
            return hidden + nn.functional.linear(hidden.float(), weight, bias).to(hidden.dtype)

        view.before(view.map.output, translate)
        return {"translator.weight": weight, "translator.bias": bias}

    def solve(
        self,
        view: ModelView,
        config: LinearProbeConfig,
        parameters: Mapping[str, nn.Parameter],
        problem: FeatureProblem,
    ) -> Mapping[str, float]:
        """Fit in place; see `fit_head` and `fit_translator`."""
        if problem.head is not None:
            return fit_head(config, problem, problem.head)
        assert view.map.output is not None
        output = view.module(view.map.output)
        return fit_translator(config, problem, parameters["translator.weight"], parameters["translator.bias"], output)
