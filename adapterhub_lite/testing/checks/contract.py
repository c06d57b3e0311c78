"""What `attach` returns: names and parameters."""

from __future__ import annotations

import re

from adapterhub_lite.base.strategy import Solver
from adapterhub_lite.testing.bench import Bench, distance, outputs
from adapterhub_lite.testing.check import Check, demand

NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.:/-]*[A-Za-z0-9_])?")
LONGEST_NAME = 250
STEPS = 3
IDENTITY_TOLERANCE = 1e-5
"""Of the largest output; fp32."""


def check_attach(bench: Bench) -> None:
    """The engine takes what `attach` returns: finite parameters of their own storage, the base and its tokenizer as before."""
    bench.attach(bench.base())


def check_names(bench: Bench) -> None:
    """Names of tensors are plain: letters, digits, '_', '.', ':', '/' and '-'."""
    attachment = bench.attach(bench.base())
    for name in {**attachment.parameters, **attachment.state().tensors}:
        plain = NAME.fullmatch(name) is not None and len(name) <= LONGEST_NAME
        demand(plain, f"the name {name!r} is not plain: use letters, digits, '_', '.', ':', '/' and '-'")


def check_returned_tensors_train(bench: Bench) -> None:
    """Every returned tensor receives a gradient other than zero within a few steps, or is set by `solve`."""
    attachment = bench.attach(bench.base())
    bench.prepare(attachment)  # what a start from data sets is no result of training
    before = {name: tensor.detach().clone() for name, tensor in attachment.tensors.items()}
    bench.train(attachment, STEPS)  # what starts at zero may hold back the gradient of another
    idle = [name for name, tensor in attachment.tensors.items() if tensor.detach().equal(before[name])]
    solves = isinstance(attachment.strategy, Solver)
    demand(not idle or not solves, f"`solve` left {_some(idle)} as it was")
    demand(not idle, f"no gradient reaches {_some(idle)}; do not return what does not train")


def check_nothing_else_trains(bench: Bench) -> None:
    """No parameter of the model requires gradients but those returned."""
    base = bench.base()
    attachment = bench.attach(base)
    returned = {id(parameter) for parameter in attachment.parameters.values()}
    others = [n for n, p in base.model.named_parameters() if p.requires_grad and id(p) not in returned]
    demand(not others, f"{_some(others)} requires gradients but was not returned; it would not be saved")


def check_identity_at_init(bench: Bench) -> None:
    """Freshly attached, the outputs of the base are what they were."""
    base = bench.base()
    inputs = bench.inputs(base)
    bare = outputs(base, inputs)
    bench.attach(base)
    difference = distance(outputs(base, inputs), bare)
    demand(
        difference <= IDENTITY_TOLERANCE,
        f"attaching changes outputs by {difference:.2g} of the largest; traits say identity_at_init=True",
    )


def _declares_identity(bench: Bench) -> str | None:
    """`traits.identity_at_init`."""
    return None if bench.traits.identity_at_init else "traits.identity_at_init is False"


def _some(names: list[str]) -> str:
    return f"'{names[0]}'" + (f" and {len(names) - 1} more" if len(names) > 1 else "") if names else ""


CHECKS = (
    Check(check_attach, tells_of=("attach",)),
    Check(check_names),
    Check(check_returned_tensors_train),
    Check(check_nothing_else_trains),
    Check(check_identity_at_init, _declares_identity),
)
