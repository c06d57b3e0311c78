"""Writes docs/strategy-protocols.md from the code: `python -m docs.make_protocols > docs/strategy-protocols.md`."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from adapterhub_lite.base import learning
from adapterhub_lite.base.strategy import Strategy
from adapterhub_lite.base.view import ModelView
from docs import protocol_examples as examples

# Protocol, its example, when it is called.
PROTOCOLS: list[tuple[type, type, str]] = [
    (Strategy, examples.LowRank, "once, when a run begins or an adapter is loaded"),
    (
        learning.Preparer,
        examples.FromInputs,
        "once, before the first step; not when a run is resumed or an adapter loaded",
    ),
    (learning.Grouped, examples.TwoRates, "once, when a run begins or is resumed"),
    (learning.Penalized, examples.Orthogonal, "once an update, whatever the micro-batch"),
    (learning.OutputLoss, examples.NearBase, "once for each piece of a batch"),
    (learning.AfterStep, examples.Pruned, "after each update that was applied"),
    (
        learning.Stateful,
        examples.Pruned,
        "at checkpoints, at the best evaluations, when the adapter is saved, and when it is read back",
    ),
]
LOOKING = ("module", "weight", "is_quantized", "original_weight", "device", "attention", "capture_attention")
CHANGING = ("replace", "before", "after", "extend_attention", "train_base", "add_tokens", "recording")
THE_ENGINES = ("mount", "unmount", "unchanged", "copied", "adapted", "rewrites_base", "settle", "forget")
"""Methods of a view that a strategy leaves alone."""
MISBEHAVIOURS = {
    "raises": (
        "raises anything, `SystemExit` too",
        "The run stops. An `AdapterHubError`, such as `NotSupportedError`, is told as it is; the rest as a `PluginError`",
    ),
    "type": (
        "returns another type than it says; `after_step` and `load_state` return nothing that is looked at",
        "The run stops",
    ),
    "names": (
        "names what is no parameter (`groups`), a name that is taken or that no file can hold (`attach`, `prepare`, `state`), "
        "or for the file something that it does not hold (`state`); puts a name into `parameters` or takes one out",
        "The run stops",
    ),
    "shape": (
        "gives one loss for another number of targets (`output_loss`), changes the shape, dtype or device of a parameter "
        "(`after_step`), or returns parameters that `attach` does not make of the config it returned (`prepare`)",
        "The run stops",
    ),
    "storage": (
        "returns a parameter twice, on another device, of a dtype without gradients or that no file holds, or in the base's "
        "own storage (`attach`, `prepare`)",
        "The run stops, before the first step",
    ),
    "not finite": (
        "leaves a parameter with NaN or infinity (`attach`, `prepare`, `after_step`), or gives a factor that is negative or "
        "not finite (`groups`)",
        "The run stops, and such a parameter is in no checkpoint",
    ),
    "loss not finite": (
        "gives a loss or a gradient that is not finite (`penalty`, `output_loss`)",
        "The run goes on: that step is not applied, and `after_step` not called. Three in a row end it",
    ),
    "memory": (
        "runs out of memory",
        "In `prepare` and `output_loss` the run goes on, with half as much at once; elsewhere it stops",
    ),
    "hangs": (
        "does not return",
        "It is named on standard error after ten seconds. It is not ended; what you interrupt it with names it, too",
    ),
    "random": (
        "draws from the generators of torch, NumPy or Python",
        "The run goes on. A call has a stream of its own, made from the run's seed, the step and the method, so that the "
        "run's own numbers stay what they were; of torch's the log says so once (level INFO). `attach` draws from the run's seed",
    ),
    "settings": (
        "changes torch's default dtype, gradient mode, threads or determinism, `sys.excepthook`, standard output or error, "
        "or the working directory",
        "The run goes on: they are put back, with a `RuntimeWarning` the first time",
    ),
    "grows": (
        "has a state that is a MiB larger than twice what it was at the first checkpoint, or values of more than a MiB",
        "The run stops; the checkpoint is not committed, and those before it stay",
    ),
    "file": (
        "holds as its state (`state`) what no file does (sparse tensors, some dtypes), values that JSON gives back as others, "
        "or, for the file, tensors of other shapes than after `attach`",
        "The run stops, or the adapter is not saved",
    ),
    "looks": (
        "writes into the batch, the outputs or a parameter, or computes gradients itself (`penalty`, `output_loss`)",
        "The run stops. Writes through `.data` are not seen",
    ),
    "slow": (
        "takes more than a tenth of the time of a step, counted from the second to the sixth step and after",
        "The run goes on, with one warning in the log for each method",
    ),
    "writes": (
        "writes into weights of the base, or leaves hooks, modules, another tokenizer or another config there, but for what "
        "went through the view",
        "It is looked for after `attach`, after the first step, at each checkpoint and at the end of the run, which stops "
        "there, and when the adapter is taken off. Writes through `.data` are found by the conformance kit alone",
    ),
}  # fmt: skip
OPENING = """\
# What a strategy can do

Written from `adapterhub_lite/base/` and `docs/protocol_examples.py` by `python -m docs.make_protocols`; change it there.

A strategy has `attach`, which changes a model through a view and returns what trains. [write-a-strategy.md](write-a-strategy.md)
leads through it. All else is optional: a strategy that has one of the methods below is asked, and one that has not costs
nothing. There is nothing to register or inherit. A strategy with `state` needs `load_state` as well, and without it has neither.
All names are in `adapterhub_lite.api`.
"""
ORDER = """\
## The order of calls

```text
a new run       attach ─► prepare ─► groups ─► steps
a step          output_loss for each piece of the batch ─► penalty ─► clipping and update ─► after_step
a checkpoint    state
a resumed run   attach, with the config that prepare returned ─► groups ─► load_state ─► steps
saving          state, of which `in_file` is kept
loading         attach, with the config that was saved ─► load_state, where something was kept
```

Each attachment has an instance of its own, which `StrategySpec.load` makes, so `self` may hold what belongs to one adapter. What
has to survive a run that is killed is in parameters or in `state`: a run that is resumed is then bit for bit the one that was not
interrupted. Where several processes train together, each of them makes all these calls. `linear_probe` and other strategies
that solve take no steps; of all this they have `attach` alone.

What a strategy promises (`StrategySpec.traits`) may depend on its options: `traits_for=` takes a function from the config
to `Traits`, which imports no torch.
"""
MISBEHAVING = """\
## When one misbehaves

Each call is guarded as hooks are. An error names the strategy, its distribution and version, the method and the step, as in
`strategy 'mine' (my-dist 1.0) in penalty at step 3 failed: ...`. When a run stops, the base is bare again and no adapter is
made. The checkpoints that were committed before are whole: the run can be resumed from the last of them.

| a method that | what happens |
|---|---|
"""


def rendered(doc: str) -> str:
    """A docstring as Markdown: `Args:`, `Raises:` and `Attributes:` become lists, `Returns:` a paragraph."""
    first, *parts = re.split(r"^(Args|Returns|Raises|Attributes):\n", inspect.cleandoc(doc), flags=re.MULTILINE)
    text = first.strip()
    for title, body in zip(parts[::2], parts[1::2], strict=True):
        indented, _, after = body.partition("\n\n")
        entries = re.split(r"\n(?=\S)", textwrap.dedent(indented).strip())
        if title == "Returns":
            text += "\n\nReturns: " + textwrap.dedent(indented).strip()
        else:
            text += "".join(
                f"\n{'- ' if i else chr(10) + '- '}" + re.sub(r"^([\w, ]+):", _as_code, entry)
                for i, entry in enumerate(entries)
            )
        text += f"\n\n{textwrap.dedent(after).strip()}" if after.strip() else ""
    return text


def _as_code(match: re.Match[str]) -> str:
    return ", ".join(f"`{name}`" for name in match[1].split(", ")) + ":"


def signature(name: str, function: Callable[..., Any]) -> str:
    """A method as it is called, on several lines where one is too long."""
    whole = inspect.signature(function)
    own = whole.replace(parameters=[p for p in whole.parameters.values() if p.name != "self"])
    line = f"{name}{own}".replace("'", "")
    if inspect.isgeneratorfunction(function):
        return f"with view.{line.partition(' -> ')[0]}: ..."
    if len(line) <= 110:
        return line
    arguments, _, returned = line.partition("(")[2].rpartition(") -> ")
    split = re.sub(r", (?=\w+: )", ",\n    ", arguments)
    return f"{name}(\n    {split},\n) -> {returned}"


def members(kind: type, names: tuple[str, ...] | None = None) -> Iterator[str]:
    """The public methods and properties of a class, each with its signature and what it says."""
    for name in names or [name for name in vars(kind) if not name.startswith("_")]:
        value = inspect.getattr_static(kind, name)
        function = getattr(value, "fget", None) or getattr(value, "func", None) or value
        if not inspect.isfunction(function):
            continue
        function = inspect.unwrap(function)
        code = signature(name, function) if value is function or hasattr(value, "__wrapped__") else None
        if code is None:
            code = f"{name}: {inspect.signature(function).return_annotation}"
        yield f"```python\n{code}\n```\n\n{rendered(function.__doc__ or '')}\n"


def source(kind: type) -> str:
    """The code of an example."""
    return inspect.getsource(kind).rstrip() + "\n"


def table() -> Iterator[str]:
    """The protocols, one a row."""
    yield "| | called | for |\n|---|---|---|"
    for protocol, _, called in PROTOCOLS:
        methods = ", ".join(
            f"`{name}`" for name in vars(protocol) if inspect.isfunction(vars(protocol)[name]) and name[0] != "_"
        )
        summary = inspect.cleandoc(protocol.__doc__ or "").partition("\n")[0]
        yield f"| [`{protocol.__name__}`](#{protocol.__name__.lower()}): {methods} | {called} | {summary} |"
    yield ""


def reference() -> str:
    """The whole document."""
    parts = [OPENING, "\n".join(table()), ORDER, "## The view\n\n" + rendered(ModelView.__doc__ or "") + "\n"]
    parts += ["### Looking\n", *members(ModelView, LOOKING), "### Changing\n", *members(ModelView, CHANGING)]
    parts += ["An example, a token of its own:\n", f"```python\n{source(examples.NewToken)}```\n"]
    parts += ["### The batch that is being run\n", rendered(learning.BatchContext.__doc__ or "") + "\n"]
    parts += ["`view.context` is one of these while the engine trains, evaluates, predicts or prepares; while text is generated "
              "it is the prompt, and None where the model is called by hand.\n", *members(learning.BatchContext)]  # fmt: skip
    parts.append(f"```python\n{source(examples.FirstTokens)}```\n")
    shared = [examples.Config, examples.Updated]
    for protocol, example, _ in PROTOCOLS:
        parts.append(f"## {protocol.__name__}\n\n{rendered(protocol.__doc__ or '')}\n")
        parts += members(protocol)
        if protocol is learning.Preparer:
            parts += [f"A `TrainingBatch`: {rendered(learning.TrainingBatch.__doc__ or '')}\n"]
            parts += members(learning.TrainingBatch)
        for record in (learning.Factors, learning.StrategyState):
            if record.__name__ in (inspect.getsource(protocol)):
                parts.append(f"```python\n{source(record)}```\n")
        if protocol is learning.AfterStep:
            parts.append("Its example is [that of `Stateful`](#stateful): a schedule nearly always has a state.\n")
            continue
        code = "\n\n".join([source(kind) for kind in [*shared, example]])
        parts.append(f"```python\n{code}```\n")
        shared = []
    rows = "".join(f"| {what} | {outcome}. |\n" for what, outcome in MISBEHAVIOURS.values())
    parts.append(MISBEHAVING + rows)
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(reference())
