"""`combine_adapters`: several LoRA adapters of one base made into one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor

from adapterhub_lite.base.differences import explain_records
from adapterhub_lite.errors import BaseMismatchError, ConfigError, NotSupportedError
from adapterhub_lite.merging.factors import METHODS, Factors, combine_layer, factors_of, to_tensors
from adapterhub_lite.merging.remake import remake
from adapterhub_lite.names import check_choice
from adapterhub_lite.storage import Manifest, StoredAdapter, check_base, open_adapter
from adapterhub_lite.training.attachment import HEAD

if TYPE_CHECKING:
    from adapterhub_lite.base.loading import Base
    from adapterhub_lite.engine import Engine


@dataclass(frozen=True)
class Combined:
    """What a combination made."""

    path: Path
    rank: int
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
    """Make one LoRA adapter of several.

    With the update of adapter i being s_i B_i A_i, `linear` and `cat` give exactly sum_i w_i s_i B_i A_i, by laying the
    factors side by side: ranks add up, and adapters may differ in rank, scale and targets. `ties` (Yadav et al. 2023,
    arXiv:2306.01708), `dare_linear` and `dare_ties` (Yu et al. 2023, arXiv:2311.03099) work on the entries of the updates
    themselves, whose result is factored anew by a singular value decomposition.

    Args:
        engine: Loads the base, on which the result is put once and probed.
        adapters: Directories of adapters of one base and one task.
        out: Where the result is saved.
        weights: One number for each; 1 each by default.
        method: linear, cat, ties, dare_linear or dare_ties.
        density: Share of the entries that `ties` and `dare_*` keep.
        rank: Rank of the result, which is cut down to it; by default the sum of the ranks.
        seed: Of what `dare_*` drops.
        base: A base or a reference to use instead of the recorded one.
        device: Where to load the base.
        force: Accept adapters whose bases differ; recorded in the result.

    Raises:
        ConfigError: weights, density or rank that make no sense.
        NotSupportedError: adapters that do not add up, with the reason.
        BaseMismatchError: adapters of different bases.
    """
    check_choice("method", method, METHODS)
    given = [1.0] * len(adapters) if weights is None else list(weights)
    _check_numbers(adapters, given, method, density, rank)
    opened = [open_adapter(path) for path in adapters]
    stored = [each for each, _ in opened]
    notes = _check_alike(stored, force)
    tensors = [safetensors.torch.load(payload) for _, payload in opened]
    first = stored[0].manifest
    config: dict[str, Any] = dict(first.strategy.config)
    itself = len(stored) == 1 and given == [1.0] and rank is None
    if itself:
        made, lost = tensors[0], 0.0  # bit for bit, DoRA and all
    else:
        layers = [
            factors_of(each.manifest.strategy.config, _without_head(one))
            for each, one in zip(stored, tensors, strict=True)
        ]
        generator = torch.Generator().manual_seed(seed)
        combined, lost = _combine(layers, given, method, density, rank, generator)
        size = max(factors.rank for factors in combined.values())
        made = to_tensors(combined, size) | _mean_head(tensors, given, stored)
        # The scale is in the factors: alpha equal to the rank multiplies by 1.
        config |= {"rank": size, "alpha": float(size), "rslora": False, "targets": ",".join(sorted(combined))}
    shares = ", ".join(f"{weight:g} of {path}" for weight, path in zip(given, adapters, strict=True))
    record = {"combined": shares, "method": method, "lost": lost}
    overruled = [line for each in stored for line in each.manifest.forced] + (notes if force else [])
    manifest = first if itself else first.model_copy(
        update={"training": record, "metrics": {}, "forced": list(dict.fromkeys(overruled))}
    )  # fmt: skip
    remake(engine, manifest, config, made, out, base=base, device=device, force=force)
    return Combined(out, int(config["rank"]), lost, tuple(notes))


def _check_numbers(
    adapters: Sequence[Path], weights: Sequence[float], method: str, density: float, rank: int | None
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
    if len(adapters) == 1 and method not in ("linear", "cat"):
        raise NotSupportedError(
            f"{method} settles between adapters, and there is one: it would only lose a part of it; use linear"
        )


def _check_alike(stored: Sequence[StoredAdapter], force: bool) -> list[str]:
    """Refuse adapters whose updates cannot be added; returns differences worth telling."""
    first, notes = stored[0].manifest, []
    for each in stored:
        manifest, config = each.manifest, each.manifest.strategy.config
        if manifest.strategy.name != "lora":
            raise NotSupportedError(
                f"{each.path} is an adapter of strategy '{manifest.strategy.name}'; only lora combines"
            )
        if config.get("dora") and len(stored) > 1:
            raise NotSupportedError(
                f"{each.path} is a DoRA adapter: its magnitudes rescale the whole weight, so updates of several cannot be "
                "added; merge each into the base, or train without dora"
            )
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
            raise BaseMismatchError(f"{stored[0].path} and {each.path} cannot be combined: {error}") from None
        notes += [f"{each.path}: {difference}" for difference in differences]
        _check_task(first, manifest, each.path)
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
    ours, theirs = ({**record.task.preprocessing, "max_length": None} for record in (first, other))
    if ours != theirs:
        differing = ", ".join(sorted(key for key in ours | theirs if ours.get(key) != theirs.get(key)))
        raise NotSupportedError(f"{path} prepares its inputs otherwise than the first adapter ({differing})")


def _combine(
    layers: Sequence[dict[str, Factors]],
    weights: Sequence[float],
    method: str,
    density: float,
    rank: int | None,
    generator: torch.Generator,
) -> tuple[dict[str, Factors], float]:
    combined, lost = {}, 0.0
    for path in sorted(
        {path for each in layers for path in each}
    ):  # an order of its own: the seed decides what is dropped
        parts = [(weight, each[path]) for weight, each in zip(weights, layers, strict=True) if path in each]
        combined[path], share = combine_layer(path, parts, method, density, rank, generator)
        lost = max(lost, share)
    return combined, lost


def _without_head(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(HEAD)}


def _mean_head(
    tensors: Sequence[dict[str, Tensor]], weights: Sequence[float], stored: Sequence[StoredAdapter]
) -> dict[str, Tensor]:
    """The mean of the heads, weighted by the adapters' weights over their sum."""
    names = [name for name in tensors[0] if name.startswith(HEAD)]
    total = math.fsum(weights)
    if not names:
        return {}
    if total <= 0 or any(weight < 0 for weight in weights):
        raise NotSupportedError(
            f"{stored[0].path} has a head, and heads are averaged by the weights: these must not be negative"
        )
    return {
        name: sum((w / total * each[name] for w, each in zip(weights, tensors, strict=True)), torch.zeros(()))
        for name in names
    }
