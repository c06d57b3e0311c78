"""The optional protocols of a strategy, each called as a run calls it, and held to what a run relies on."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from adapterhub_lite.base.learning import (
    AfterStep,
    Grouped,
    OutputLoss,
    Penalized,
    Preparer,
    Stateful,
    StrategyState,
)
from adapterhub_lite.testing.bench import Bench, distance
from adapterhub_lite.testing.check import Check, demand
from adapterhub_lite.training.attachment import Attachment

STEPS = 3
PENALTIES = 8
"""Steps whose penalty is looked at."""
CONTEXT_TOLERANCE = 1e-4
"""Of the largest output; fp32."""
ROWS = 3


def check_prepare(bench: Bench) -> None:
    """`prepare` takes batches of the run, and gives parameters and a config from which the adapter is made again."""
    attachment = bench.attach(bench.base())
    bench.prepare(attachment)
    again = bench.attach(bench.base(), config=attachment.config)
    shapes = [{name: tensor.shape for name, tensor in a.tensors.items()} for a in (attachment, again)]
    demand(shapes[0] == shapes[1], "attach with the config that prepare gave makes other tensors")


def check_groups(bench: Bench) -> None:
    """`groups` gives Factors for names that `attach` returned, the same whenever it is asked."""
    protocols = bench.protocols(bench.attach(bench.base()))
    demand(protocols.groups() == protocols.groups(), "groups gives other factors when it is called again")


def check_penalty(bench: Bench) -> None:
    """`penalty` gives finite scalars with a gradient, which depend on the parameters alone: not on what was run before."""
    attachment = _prepared(bench)
    protocols, batch = bench.protocols(attachment), bench.batch(attachment)
    before = {name: float(value.detach()) for name, value in protocols.penalties(1).items()}
    for step in range(1, PENALTIES + 1):
        part = {name: value[: 1 + step % 2] for name, value in batch.items()}
        with torch.no_grad():
            attachment.logits(part)
        for name, value in protocols.penalties(step).items():
            demand(
                bool(value.isfinite()), f"{name} is {float(value.detach())} when it is asked for the {step + 1}th time"
            )
            same = abs(float(value.detach()) - before[name]) <= 1e-6 * max(1.0, abs(before[name]))
            demand(
                same,
                f"{name} was {before[name]:.6g} and is {float(value.detach()):.6g} after other rows were run through the "
                "model; what depends on a batch belongs into output_loss",
            )
            demand(value.requires_grad, f"{name} has no gradient, so it changes nothing; compute it from `parameters`")


def check_after_step(bench: Bench) -> None:
    """`after_step` leaves the names and shapes of parameters, and values that are finite."""
    attachment = bench.attach(bench.base())
    bench.train(attachment, STEPS)
    demand(bool(bench.predictions(attachment).isfinite().all()), f"after {STEPS} steps outputs are not finite")


def check_state(bench: Bench) -> None:
    """What `state` gives is tensors and JSON of bounded size, and `load_state` of a fresh instance takes all of it."""
    attachment = bench.attach(bench.base())
    with tempfile.TemporaryDirectory() as folder:
        bench.train(attachment, STEPS, folder=Path(folder, "run"))
    given = _kept(attachment.state())
    fresh = bench.attach(bench.base(), config=attachment.config, seed=1)
    fresh.load_state(StrategyState(given["tensors"], given["values"], given["in_file"]))
    taken = _kept(fresh.state())
    for kind, what in (("tensors", "tensor"), ("values", "value")):
        demand(
            list(given[kind]) == list(taken[kind]), f"after load_state, state has other {what}s than were given to it"
        )
        for name, old in given[kind].items():
            new = taken[kind][name]
            same = torch.equal(old, new) if kind == "tensors" else old == new
            demand(same, f"the {what} '{name}' of the state is another after load_state")


def check_output_loss(bench: Bench) -> None:
    """`output_loss` gives finite numbers with a gradient, and asking the teacher leaves the adapter as it was."""
    attachment = _prepared(bench)
    batch, protocols = bench.batch(attachment), bench.protocols(attachment)
    with attachment.training():
        logits, _ = attachment.logits(batch)
        given = protocols.output_loss(batch, logits.float(), 1)
    assert given is not None
    demand(given.requires_grad, "output_loss has no gradient, so it changes nothing; compute it from `outputs`")
    demand(bool(given.isfinite().all()), "output_loss gives numbers that are not finite")


def check_added_tokens(bench: Bench) -> None:
    """Every token that was added has a trained row, and is the adapter's alone: gone from the base without it."""
    base = bench.base()
    tokenizer, known = base.tokenizer, base.tokenizer.get_vocab()
    attachment = bench.attach(base)
    added = len(base.tokenizer) - len(known)
    for name, rows in attachment.view.token_rows.items():
        demand(
            len(rows) == added,
            f"the tokenizer has {added} tokens more than the base's and '{name}' has {len(rows)} rows; add all tokens "
            "in one call of view.add_tokens",
        )
    with bench.adapter(attachment).disabled():
        demand(base.tokenizer is tokenizer, "inside disabled() the base has the adapter's tokenizer")
    attachment.detach()
    demand(base.tokenizer is tokenizer, "after detach the base has the adapter's tokenizer")
    demand(tokenizer.get_vocab() == known, "the base's own tokenizer was changed")


def check_batch_context(bench: Bench) -> None:
    """In a batch, with what `view.context` says of it, each row has the outputs that it has alone."""
    attachment = _prepared(bench)
    task, by_length = attachment.task, defaultdict(list)
    for example in bench.encoded(attachment).examples:  # of one length: what padding does is for check_padding
        by_length[example.length].append(example)
    examples = max(by_length.values(), key=len)[:ROWS]
    with torch.no_grad():
        together = attachment.logits(task.collate(examples, attachment.base))[0]
        alone = torch.cat([attachment.logits(task.collate([example], attachment.base))[0] for example in examples])
    difference = distance(together, alone)
    demand(
        difference <= CONTEXT_TOLERANCE,
        f"in a batch of {len(examples)}, outputs differ by {difference:.2g} of the largest from those of each row alone",
    )


def _prepared(bench: Bench) -> Attachment:
    """Attached, started from data where the strategy does, and trained a little."""
    attachment = bench.attach(bench.base())
    bench.train(attachment, 1)
    return attachment


def _kept(state: StrategyState) -> dict[str, Any]:
    """A state that does not change with the strategy."""
    tensors = {name: tensor.detach().clone() for name, tensor in state.tensors.items()}
    return {"tensors": tensors, "values": dict(state.values), "in_file": tuple(state.in_file)}


def _has(protocol: type, words: str) -> Callable[[Bench], str | None]:
    def has(bench: Bench) -> str | None:
        return None if isinstance(bench.spec.make(), protocol) else f"the strategy has no `{words}`"

    has.__doc__ = f"The strategy has `{words}`."
    return has


def _adds_tokens(bench: Bench) -> str | None:
    """It adds tokens."""
    return None if bench.attach(bench.base()).view.token_rows else "it adds no tokens"


CHECKS = (
    Check(check_prepare, _has(Preparer, "prepare"), tells_of=("prepare",)),
    Check(check_groups, _has(Grouped, "groups"), tells_of=("groups",)),
    Check(check_penalty, _has(Penalized, "penalty"), tells_of=("penalty",)),
    Check(check_after_step, _has(AfterStep, "after_step"), tells_of=("after_step",)),
    Check(check_state, _has(Stateful, "state"), tells_of=("state", "load_state")),
    Check(check_output_loss, _has(OutputLoss, "output_loss"), tells_of=("output_loss",)),
    Check(check_added_tokens, _adds_tokens),
    Check(check_batch_context),
)
