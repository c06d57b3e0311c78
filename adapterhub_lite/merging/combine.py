"""`combine_adapters`: several adapters of one base made into one by their strategy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.base.differences import explain_records
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.strategy import Combinable, Part, Recipe
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import BaseMismatchError, ConfigError, NotSupportedError
from adapterhub_lite.merging.saved import SavedAdapter, open_saved, provider_of, remake, strategy_of
from adapterhub_lite.plugins.strategy_call import StrategyCalls
from adapterhub_lite.storage import Manifest, check_base
from adapterhub_lite.tasks.task import LEARNT


@dataclass(frozen=True)
class Combined:
    """What a combination made."""

    path: Path
    rank: int | None
    """Of its updates; None where the strategy's have none."""
    lost: float
    """Largest share of a layer's update (Frobenius norm) that the rank had no room for; 0 where nothing was cut off."""
    notes: tuple[str, ...]


def combine_adapters(
    engine: Engine,
    adapters: Sequence[Path],
    out: Path,
    *,
    weights: Sequence[float] | None = None,
    method: str = "linear",
    density: float = 0.5,
    rank: int | None = None,
    seed: int = 0,
    base: Base | str | None = None,
    device: str = "auto",
    force: bool = False,
) -> Combined:
    """Make one adapter of several. Their strategy does it, which has to be `Combinable`; heads are averaged here.

    Args:
        engine: Loads the base, on which the result is put once and probed.
        adapters: Directories of adapters of one base and one task.
        out: Where the result is saved.
        weights: One number for each; 1 each by default.
        method: One that the strategy knows; of lora linear, cat, ties, dare_linear or dare_ties.
        density: Share of the entries that `ties` and `dare_*` keep.
        rank: Rank of the result, which is cut down to it; by default no cut.
        seed: Of what `dare_*` drops.
        base: A base or a reference to use instead of the recorded one.
        device: Where to load the base.
        force: Accept adapters whose bases differ; recorded in the result.

    Raises:
        ConfigError: weights, method, density or rank that make no sense.
        NotSupportedError: adapters that do not add up, with the reason.
        BaseMismatchError: adapters of different bases.
    """
    weights = [1.0] * len(adapters) if weights is None else list(weights)
    _check_numbers(adapters, weights, density, rank, seed)
    saved = [open_saved(path) for path in adapters]
    strategies = [strategy_of(engine, adapter) for adapter in saved]
    strategy = strategies[0][0]
    _check_strategies(engine, saved, combinable=isinstance(strategy, Combinable))
    assert isinstance(strategy, Combinable)
    notes = _check_alike(saved, force)
    parts = [
        Part(str(adapter.path), weight, config, adapter.body)
        for adapter, weight, (_, config) in zip(saved, weights, strategies, strict=True)
    ]
    with StrategyCalls(provider_of(engine, saved[0].manifest)).into("combine"):
        made = strategy.combine(parts, Recipe(method, density, rank, seed))
    first = saved[0].manifest
    itself = len(saved) == 1 and weights == [1.0] and rank is None
    head = saved[0].head if itself else _mean_head(saved, weights)
    shares = ", ".join(f"{weight:g} of {path}" for weight, path in zip(weights, adapters, strict=True))
    record = {"combined": shares, "method": method, "lost": made.lost}
    overruled = [line for adapter in saved for line in adapter.manifest.forced] + (notes if force else [])
    # What the first was shown is not what this was shown, and nobody can say it of all of them in one.
    task = first.task.model_copy(
        update={"preprocessing": {**first.task.preprocessing, "facts": _facts(first.task.preprocessing)}}
    )
    manifest = first if itself else first.model_copy(
        update={"task": task, "training": record, "metrics": {}, "forced": list(dict.fromkeys(overruled))}
    )  # fmt: skip
    remake(engine, manifest, made.settings, {**made.tensors, **head}, out, base=base, device=device, force=force)
    return Combined(out, made.rank, made.lost, tuple(notes))


def _check_numbers(
    adapters: Sequence[Path], weights: Sequence[float], density: float, rank: int | None, seed: int
) -> None:
    if not adapters:
        raise ConfigError("name at least one adapter")
    if len(weights) != len(adapters):
        raise ConfigError(
            f"{len(weights)} weights for {len(adapters)} adapters; give one each, as in --weights 0.7,0.3"
        )
    if not all(math.isfinite(weight) for weight in weights):
        raise ConfigError("weights must be finite numbers")
    if not 0 < density <= 1:
        raise ConfigError(f"density {density} is not above 0 and at most 1")
    if rank is not None and rank < 1:
        raise ConfigError(f"rank {rank} is less than 1")
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed {seed} is not between 0 and {2**63 - 1}")


def _check_strategies(engine: Engine, saved: Sequence[SavedAdapter], *, combinable: bool) -> None:
    """Refuse adapters of a strategy that does not combine, or of another one than the first."""
    first = saved[0].manifest.strategy
    able = (
        {first.name} if combinable else {provided.spec.name for provided, _ in engine.strategy_shelf.able(Combinable)}
    )
    for adapter in saved:
        made_by = adapter.manifest.strategy
        if not combinable or (made_by.name, made_by.dist) != (first.name, first.dist):
            raise NotSupportedError(
                f"{adapter.path} is an adapter of strategy '{made_by.name}'; only {' and '.join(sorted(able))} "
                f"{'combines' if len(able) == 1 else 'combine'}" + (f" with {saved[0].path}" if combinable else "")
            )


def _check_alike(saved: Sequence[SavedAdapter], force: bool) -> list[str]:
    """Refuse adapters of different bases or tasks; returns the differences that are allowed, for the user."""
    first, notes = saved[0].manifest, []
    for adapter in saved:
        manifest = adapter.manifest
        try:
            differences = check_base(
                first.base,
                manifest.base.fingerprint,
                manifest.base.quantization,
                manifest.base.reference,
                force=force,
                explain=partial(explain_records, first.base, manifest.base),
            )
        except BaseMismatchError as error:
            raise BaseMismatchError(f"{saved[0].path} and {adapter.path} cannot be combined: {error}") from None
        notes += [f"{adapter.path}: {difference}" for difference in differences]
        _check_task(first, manifest, adapter.path)
    return notes


def _check_task(first: Manifest, other: Manifest, path: Path) -> None:
    if other.task.name != first.task.name:
        raise NotSupportedError(
            f"{path} is for {other.task.name}, the first adapter for {first.task.name}; one task each"
        )
    if other.task.labels != first.task.labels:
        raise NotSupportedError(
            f"{path} has other labels than the first adapter, or in another order, so their heads cannot be averaged"
        )
    ours, theirs = (_preparation(record) for record in (first, other))
    if ours != theirs:
        differing = ", ".join(sorted(key for key in ours | theirs if ours.get(key) != theirs.get(key)))
        raise NotSupportedError(f"{path} prepares its inputs otherwise than the first adapter ({differing})")


def _preparation(manifest: Manifest) -> dict[str, Any]:
    """How an input is prepared, without what differs between adapters that may be combined."""
    preprocessing = manifest.task.preprocessing
    return {**preprocessing, "max_length": None, "facts": _facts(preprocessing)}


def _facts(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """What was settled about the inputs, without what training learnt from its data."""
    facts = preprocessing.get("facts")
    return {name: fact for name, fact in facts.items() if name != LEARNT} if isinstance(facts, dict) else {}


def _mean_head(saved: Sequence[SavedAdapter], weights: Sequence[float]) -> dict[str, Tensor]:
    """The mean of the heads, weighted by the adapters' weights over their sum."""
    total = math.fsum(weights)
    if not saved[0].head:
        return {}
    if total <= 0 or any(weight < 0 for weight in weights):
        raise NotSupportedError(
            f"{saved[0].path} has a head, and heads are averaged by the weights: these must not be negative"
        )
    return {
        name: sum((w / total * adapter.head[name] for w, adapter in zip(weights, saved, strict=True)), torch.zeros(()))
        for name in saved[0].head
    }
