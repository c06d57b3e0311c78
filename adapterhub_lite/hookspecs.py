"""The hooks a plug-in may implement, each with an example that runs.

A plug-in marks its functions with `adapterhub_lite.api.hookimpl` and leaves out the arguments it does not need.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from adapterhub_lite.api import PROJECT, ModelMap, Run, StrategySpec

if TYPE_CHECKING:
    from torch import nn

hookspec = pluggy.HookspecMarker(PROJECT)


@hookspec
def adapterhub_strategies() -> Iterable[StrategySpec]:  # type: ignore[empty-body]
    """Offer strategies. Called once at start-up, so import nothing heavy here.

    Example:
        @hookimpl
        def adapterhub_strategies():
            return [StrategySpec(name="mine", summary="My method.", config=MyConfig, load=load_mine)]

    A failure is recorded and shown by `adapterhub-lite plugins list`; the other plug-ins go on.
    """


@hookspec(firstresult=True)
def adapterhub_load_base(ref: str, quantization: str) -> nn.Module | None:
    """Load a base the core cannot, from a reference of your own; return None for references that are not yours.

    Example:
        @hookimpl
        def adapterhub_load_base(ref, quantization):
            if ref.startswith("vault:"):
                return AutoModel.from_pretrained(fetch(ref))

    A failure is raised to the user, naming the plug-in.
    """


@hookspec(firstresult=True)
def adapterhub_describe_model(model: nn.Module) -> ModelMap | None:
    """Say where layers, attention and output are in a model that introspection gets wrong; None for others.

    Example:
        @hookimpl
        def adapterhub_describe_model(model):
            if type(model).__name__ == "MyEncoder":
                return ModelMap(modality="series", hidden_size=model.width, layers=(...), linears=(...),
                                attention_linears=(), output=None, pooling="mean", causal=False)

    A failure is raised to the user, naming the plug-in.
    """


@hookspec
def adapterhub_train_start(run: Run) -> None:
    """See a run begin. An observer that raises is warned about once and muted for the run.

    Example:
        @hookimpl
        def adapterhub_train_start(run):
            print(f"{run.strategy} on {run.base}: {run.total_steps} steps")
    """


@hookspec
def adapterhub_step_end(run: Run, step: int, metrics: Mapping[str, float]) -> None:
    """See an optimizer step end; `metrics` has loss, learning_rate and, where measured, grad_norm and eval_*.

    Example:
        @hookimpl
        def adapterhub_step_end(run, step, metrics):
            if metrics["loss"] < 0.1:
                run.stop("loss is low enough")
    """


@hookspec
def adapterhub_train_end(run: Run, error: BaseException | None) -> None:
    """See a run end; `error` is what ended it, None when it finished.

    Example:
        @hookimpl
        def adapterhub_train_end(run, error):
            notify("done" if error is None else f"failed: {error}")
    """


@hookspec
def adapterhub_adapter_saved(path: Path, manifest: Mapping[str, Any]) -> None:
    """See an adapter that has just been committed to disk.

    Example:
        @hookimpl
        def adapterhub_adapter_saved(path, manifest):
            upload(path)
    """
