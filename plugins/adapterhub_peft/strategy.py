"""The half of the bridge that needs torch and PEFT: one strategy for all of PEFT's methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from torch import nn

from adapterhub_lite.api import ModelView, NotSupportedError, StrategyConfig

ADAPTER = "default"
SAME = 1e-3
"""How far the checksum of the frozen part may be off, as a share: other hardware rounds in another way."""


class PeftMethod:
    """One of PEFT's methods. PEFT puts its layers into the model; what is trained keeps PEFT's own names in the file.

    Some methods train a few numbers beside tensors that stay fixed: random projections, masks, singular vectors of the
    base. Those are not saved. They are made anew from the base and a seed, both of which the adapter records, and a
    checksum tells whether they came out as they were.
    """

    def __init__(self, name: str):
        self.name = name
        self._tuner: Any = None
        self._seed = 0

    def attach(self, view: ModelView, config: StrategyConfig) -> Mapping[str, nn.Parameter]:
        """Let PEFT put its layers in place of the targets.

        Raises:
            NotSupportedError: PEFT refuses this model, or its frozen part comes out otherwise than when it was saved.
            ConfigError: options that PEFT refuses, or targets that are not there.
        """
        options = config.model_dump()
        targets = find_targets(view, options["targets"], self.name)
        seed = options["seed"]
        self._seed = int(torch.randint(1 << 31, ()).item()) if seed is None else seed
        base = {id(parameter) for parameter in view.model.parameters()}
        peft_config = self._configure(view, options, targets)
        problem: Exception | None = None
        with view.recording(), _quiet(), _drawing_from(self._seed):
            try:
                self._tuner = PEFT_TYPE_TO_TUNER_MAPPING[peft_config.peft_type](view.model, peft_config, ADAPTER)
            except Exception as error:  # raised again below, when what was done so far is in the log
                problem = error
        if problem is not None:
            raise NotSupportedError(
                f"{self.name} cannot be attached to this {type(view.model).__name__}: {_reason(problem)}; change its "
                "options or targets, or use strategy lora"
            ) from problem
        for module in self._tuner.modules():
            if not any(id(parameter) in base for parameter in module.parameters(recurse=False)):
                module.training = view.model.training
        parameters = {name: p for name, p in self._file().items() if isinstance(p, nn.Parameter) and p.requires_grad}
        missing = [
            n for n, p in self._own_parameters(base) if p.requires_grad and all(p is not q for q in parameters.values())
        ]
        if missing or not parameters:
            raise NotSupportedError(
                f"{self.name} trains {missing[0] if missing else 'nothing'} that PEFT does not save, so it cannot be kept"
            )
        once = {id(parameter): name for name, parameter in reversed(parameters.items())}
        parameters = {name: p for name, p in parameters.items() if once[id(p)] == name}
        for parameter in parameters.values():
            parameter.data = parameter.data.float()
        if options["remade"] is not None:
            self._compare(options["remade"])
        return parameters
