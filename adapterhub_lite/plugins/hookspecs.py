"""The hooks a plug-in may implement, each with an example that runs.

A plug-in marks its functions with `adapterhub_lite.api.hookimpl` and leaves out the arguments it does not need.
docs/hooks.md is written from this file by `python -m docs.make_hooks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from adapterhub_lite.plugins.spec import PROJECT, ReaderSpec, Spec, StrategySpec

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

# The classes of these are in packages that build on this one; whoever calls the hooks checks what they give.
TaskSpec = Spec
ModelMap = Any
TinyModel = Any

hookspec = pluggy.HookspecMarker(PROJECT)


@dataclass
class Run:
    """What an observer hook may see of a training run. Observers look; they do not change."""

    strategy: str
    task: str
    base: str
    total_steps: int
    config: Mapping[str, Any]
    stop: Callable[[str], None]
    """Ask the engine to end after this step, with a reason; the adapter is saved as it is then."""
    id: str = ""
    """Names this run among all others; the same when it is resumed."""
    log: Callable[[str, float], None] = lambda name, value: None
    """Log a finite number beside the run's own, under the plug-in's name: in metrics.jsonl and with the trackers."""
    state: dict[str, Any] = field(default_factory=dict)
    """The plug-in's own slot: JSON that every checkpoint keeps, and that is back when the run is resumed."""


@hookspec
def adapterhub_strategies() -> Iterable[StrategySpec]:  # type: ignore[empty-body]
    """Offer strategies.

    Called once at start-up, so import nothing heavy here. Strategies are looked up by name; where two distributions
    offer one name, the user has to say `DIST:NAME`.

    Example:
        @hookimpl
        def adapterhub_strategies():
            return [StrategySpec(name="mine", summary="My method.", config=MyConfig, load="my_method.strategy:Mine")]

    When it fails: the plug-in is taken out and shown as failed by `adapterhub-lite plugins list`; the others go on.
    """


@hookspec
def adapterhub_tasks() -> Iterable[TaskSpec]:  # type: ignore[empty-body]
    """Offer tasks.

    Called once at start-up, so import nothing heavy here. The tasks that come with adapterhub-lite are described in the
    same way. A task of a plug-in is named `NAME`, or `DIST:NAME` where several distributions offer one of that name;
    adapters record the latter.

    Example:
        @hookimpl
        def adapterhub_tasks():
            return [
                TaskSpec(
                    name="text-ranking", summary="Texts in, an order out.", modality="text",
                    read=read_rankings, load="text_ranking.task:Ranking", roles=("text", "rank"),
                )
            ]

    When it fails: as for `adapterhub_strategies`.
    """


@hookspec
def adapterhub_readers() -> Iterable[ReaderSpec]:  # type: ignore[empty-body]
    """Read files with other suffixes as tables, for the tasks of everyone.

    Called when a file is given that the core does not read. `read` gets its path and gives rows as `read_table` takes them
    in memory; what is wrong with a file it says in a DataError. Files that a task opens by itself (`TaskSpec.suffixes`)
    are left to the task.

    Example:
        @hookimpl
        def adapterhub_readers():
            return [ReaderSpec(suffixes=(".notes",), read=lambda path: [{"text": path.read_text()}])]

    When it fails, or two plug-ins read files of one suffix: the error is raised to the user and names the plug-in.
    """


@hookspec(firstresult=True)
def adapterhub_load_base(
    ref: str, quantization: str, dtype: str, device: str, revision: str | None
) -> nn.Module | None:
    """Load a base that the core cannot, from a reference of your own.

    Return None for references that are not yours. Plug-ins are asked in turn, the core last; the first answer is taken.
    `quantization` is "none", "nf4", "fp4" or "int8"; `dtype` is what the base is to compute in, such as "bfloat16", and
    `device` where, such as "cuda:0"; `revision` is what stands behind an "@" in the reference, if there is one.

    Example:
        @hookimpl
        def adapterhub_load_base(ref, quantization):
            if ref.startswith("vault:"):
                return AutoModel.from_pretrained(fetch(ref.removeprefix("vault:")))

    When it fails, or returns anything but a torch module or None: the error is raised to the user and names the plug-in.
    """


@hookspec(firstresult=True)
def adapterhub_base_config(config: Mapping[str, Any]) -> PretrainedConfig | None:
    """Make the configuration of a base whose class transformers does not know, or that has to be made otherwise.

    `config` is what the base's config.json says. Return None for those that are not yours. The model is of the class that
    `transformers.AutoModel` has for the configuration, so a class of your own is registered here, and not before: at
    start-up transformers is not imported. References are resolved, weights read and quantized as for any base.

    Example:
        @hookimpl
        def adapterhub_base_config(config):
            if config.get("model_type") == "my-encoder":
                AutoConfig.register("my-encoder", MyEncoderConfig, exist_ok=True)
                AutoModel.register(MyEncoderConfig, MyEncoderModel, exist_ok=True)
                return MyEncoderConfig.from_dict({**config, "hide_inputs": False})

    When it fails, or returns anything but a PretrainedConfig or None: the error is raised to the user and names the
    plug-in.
    """


@hookspec(firstresult=True)
def adapterhub_describe_model(model: nn.Module) -> ModelMap | None:
    """Say where layers, attention and output are in a model that introspection gets wrong.

    Return None for models that are not yours. Look at the model and leave it as it is.

    Example:
        @hookimpl
        def adapterhub_describe_model(model):
            if type(model).__name__ == "MyEncoder":
                layers = tuple(f"blocks.{i}" for i in range(len(model.blocks)))
                linears = tuple(f"{layer}.mix" for layer in layers)
                return ModelMap(
                    modality="series", hidden_size=model.width, layers=layers, linears=linears,
                    attention_linears=(), output=None, pooling="mean", causal=False,
                )

    When it fails, returns anything but a ModelMap or None, or changes the model: the error is raised to the user and
    names the plug-in. Changes to modules, hooks and tensors are noticed, writes through `.data` are not.
    """


@hookspec
def adapterhub_tiny_models() -> Iterable[TinyModel]:  # type: ignore[empty-body]
    """Bring tiny models for the conformance kit, on which every strategy is checked.

    For the bases and tasks of a plug-in: called when the kit runs, so what is heavy may be imported here.
    `build` gives a model and its processor, `problem` data of a few rows that it can learn, `plugin` is your module,
    which provides the task. One that strategies may refuse, as long as they do so cleanly, is `bare`.

    Example:
        @hookimpl
        def adapterhub_tiny_models():
            return [TinyModel("ranker", "BERT-like, for rankings", build_tiny, tiny_rankings, my_plugin)]

    When it fails: the kit does not run, and its error names the plug-in.
    """


@hookspec
def adapterhub_train_start(run: Run) -> None:
    """See a run begin.

    `run` is this plug-in's own: the same object in every hook of the run, and no other plug-in's. `run.stop(reason)`
    asks the engine to end after the step it is at. Where several processes train together, the main one alone calls.
    Objects with these methods can also be given to one run by hand: `ah.train(base, data, callbacks=[mine])`.

    Example:
        @hookimpl
        def adapterhub_train_start(run):
            print(f"{run.strategy} on {run.base}: {run.total_steps} steps", file=sys.stderr)

    When it fails: one warning, and the plug-in is muted for the rest of the run, which goes on as if it were not there.
    """


@hookspec
def adapterhub_step_end(run: Run, step: int, metrics: Mapping[str, float]) -> None:
    """See an optimizer step end.

    `step` counts from 1. `metrics` is a copy, with `loss` (the mean over the step's targets), `learning_rate` and
    `grad_norm` (before clipping); a loss that is not finite is reported as it is.

    Example:
        @hookimpl
        def adapterhub_step_end(run, step, metrics):
            run.state["best"] = min(metrics["loss"], run.state.get("best", metrics["loss"]))
            run.log("best", run.state["best"])
            if metrics["loss"] < 0.1:
                run.stop("the loss is low enough")

    When it fails: as for `adapterhub_train_start`.
    """


@hookspec
def adapterhub_train_end(run: Run, error: BaseException | None, metrics: Mapping[str, float]) -> None:
    """See a run end.

    `error` is what ended it, None when it finished or was stopped. What is done to the exception is undone. `metrics` are
    the scores on the held-out data that are saved with the adapter, and "train_loss"; empty where the run failed.

    Example:
        @hookimpl
        def adapterhub_train_end(run, error, metrics):
            notify(f"{run.id}: {metrics}" if error is None else f"failed: {error}")

    When it fails: as for `adapterhub_train_start`.
    """


@hookspec
def adapterhub_adapter_saved(path: Path, manifest: Mapping[str, Any]) -> None:
    """See an adapter that has just been committed to disk.

    `manifest` is a copy of what is in its adapterhub.json.

    Example:
        @hookimpl
        def adapterhub_adapter_saved(path, manifest):
            upload(path, name=manifest["strategy"]["name"])

    When it fails: one warning; the adapter is saved all the same.
    """
