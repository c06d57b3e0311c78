"""What a strategy must leave alone around it: the libraries, and models it cannot adapt."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.plugins.surroundings import PUT_BACK
from adapterhub_lite.testing.bench import Bench
from adapterhub_lite.testing.check import Check, CheckFailed, CheckSkipped, demand
from adapterhub_lite.testing.snapshot import (
    changed,
    differences,
    function_tables,
    patched,
    process_state,
    snapshot,
    warnings_with,
)


def check_no_global_patches(bench: Bench) -> None:
    """Attaching, training, saving, loading and detaching leave libraries, settings and random state as they were."""
    base, other = bench.base(), bench.base()
    state, tables = process_state(), function_tables()
    with warnings_with(PUT_BACK) as restored:
        try:
            attachment = bench.attach(base)
        except NotSupportedError as error:
            raise CheckSkipped(str(error)) from None
        bench.train(attachment, 1)
        with tempfile.TemporaryDirectory() as folder:
            bench.adapter(attachment).save(Path(folder, "adapter"))
            random = torch.get_rng_state()
            bench.engine.load_adapter(Path(folder, "adapter"), base=other).detach()
            demand(torch.equal(random, torch.get_rng_state()), "loading an adapter moved torch's random state")
        attachment.detach()
    demand(not restored, "; ".join(restored[:3]))
    settings = changed(state, process_state())
    demand(not settings, f"changed for the whole process: {', '.join(settings[:5])}")
    names = patched(tables, function_tables())
    demand(not names, f"replaced for the whole process: {', '.join(names[:5])}")


def check_refuses_cleanly(bench: Bench) -> None:
    """A model that the strategy cannot adapt is refused with NotSupportedError, and left as it was."""
    base = bench.base()
    before = snapshot(base.model)
    try:
        bench.attach(base).detach()
    except NotSupportedError as error:
        demand(bool(str(error).strip()), "NotSupportedError has no message; say what the model lacks")
    except Exception as error:
        raise CheckFailed(
            f"attaching to {type(base.model).__name__} ({bench.model.summary}) raised {type(error).__name__}: "
            f"{error}; raise NotSupportedError before anything is changed"
        ) from error
    changes = differences(before, snapshot(base.model))
    demand(not changes, f"{type(base.model).__name__} is not what it was: {'; '.join(changes[:3])}")


def check_adapts_a_model(bench: Bench) -> None:
    """At least one of the models is adapted; else nearly every check would be skipped."""
    reasons = {model.name: replace(bench, model=model).refusal for model in bench.others}
    last = next(reversed(reasons.values()), None)
    demand(None in reasons.values(), f"the strategy adapts none of {', '.join(reasons)}; of the last it says: {last}")


def _refused(bench: Bench) -> str | None:
    """The strategy refuses the model, or the model is the one that has neither weight matrices nor attention."""
    return None if bench.refusal is not None or bench.model.bare else "the strategy adapts this model"


def _ordinary(bench: Bench) -> str | None:
    """Always."""
    # Nothing is asked of the strategy here: what its first use patches is to be seen inside the check.
    return "only on models that may be adapted" if bench.model.bare else None


CHECKS = (
    Check(check_no_global_patches, _ordinary, on="any model"),
    Check(check_adapts_a_model, on="strategy"),
    Check(check_refuses_cleanly, _refused, on="any model"),
)
