"""Methods of PEFT whose layers are told something that PEFT's own forward pass, or nobody, would tell them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.api import ConfigError, ModelView, NotSupportedError
from adapterhub_peft.strategy import ADAPTER, MergeablePeftMethod, PeftMethod


class Poly(PeftMethod):
    """Polytropon (Ponti et al. 2022, arXiv:2202.13914): several low-rank updates, mixed in shares that each task learns.

    The task of each row is that of the batch (`view.context.task_ids`); with n_tasks=1 all rows are of one.
    """

    def _put_in(self, view: ModelView, peft_config: Any) -> None:
        for layer in self._tuner.modules():
            if hasattr(layer, "poly_router"):
                layer.register_forward_pre_hook(partial(self._tell, view), with_kwargs=True)

    def _tell(
        self, view: ModelView, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Give a layer the task of each of its rows.

        Raises:
            NotSupportedError: there are several tasks, and the batch does not say which row is of which.
        """
        given: Tensor = args[0]
        tasks = getattr(layer, "n_tasks")[ADAPTER]  # noqa: B009 (PEFT's layers are no typed modules)
        ids = view.context.task_ids if view.context is not None else None
        if tasks == 1:
            ids = torch.zeros(len(given), dtype=torch.long, device=given.device)
        elif ids is None or len(ids) != len(given):
            raise NotSupportedError(
                f"{self.name}: n_tasks={tasks} needs batches with one of `task_ids` for each row, which task '{view.task}' does "
                "not make; use n_tasks=1"
            )
        return args, {**kwargs, "task_ids": ids}


class TrainableTokens(MergeablePeftMethod):
    """Rows of the embedding, trained in copies."""

    def _arguments_of(self, view: ModelView, options: dict[str, Any]) -> dict[str, Any]:
        """What PEFT's configuration class is called with.

        Raises:
            ConfigError: no tokens, or some that the embedding has no row of.
        """
        arguments, wanted = super()._arguments_of(view, options), options["token_indices"]
        if not wanted:
            raise ConfigError(
                f"{self.name} trains the tokens in token_indices, and it is empty; name some, such as "
                "token_indices=[5, 6], or use a strategy that trains layers, such as lora"
            )
        modules = [view.module(path) for path in arguments["target_modules"]]
        rows = min((module.num_embeddings for module in modules if isinstance(module, nn.Embedding)), default=None)
        outside = [index for index in wanted if index < 0 or (rows is not None and index >= rows)]
        if outside:
            raise ConfigError(
                f"{self.name}: token_indices names {outside[0]}, and the tokens are 0 to {(rows or 0) - 1}"
            )
        return arguments


class PVera(MergeablePeftMethod):
    """VeRA with sampled updates. Samples are drawn from the random numbers of the run, never from a generator of PEFT's.

    A layer that is computed again for its gradients then draws the same sample, and so does a run that is resumed.
    """

    def _put_in(self, view: ModelView, peft_config: Any) -> None:
        for layer in self._tuner.modules():
            if hasattr(layer, "pvera_generator"):
                layer.pvera_generator[ADAPTER] = None
