"""A start at the directions in which inputs vary, with ranks where these say most.

EVA (Paischer et al. 2024, arXiv:2410.07170), by the incremental decomposition of PEFT.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import torch
from peft.utils.incremental_pca import IncrementalPCA
from torch import Tensor
from torch.nn import functional

from adapterhub_lite.api import ConfigError, TrainingBatch
from adapterhub_lora import LoraConfig
from adapterhub_lora.scales import rank_at
from adapterhub_lora.seen import tokens_learnt_from

ALIKE = 0.99
"""The cosine between a direction before and after a batch from which it counts as found."""
SEED = 42
"""Of the projections in the decomposition; PEFT's."""
MOST_BATCHES = 1000
"""After so many the directions are taken as they are."""


class Search:
    """The directions in which the inputs of a layer vary most, found batch by batch.

    Args:
        count: How many.
    """

    def __init__(self, count: int):
        self.count = count
        self.settled = torch.zeros(count, dtype=torch.bool)
        self._analysis = IncrementalPCA(n_components=count, lowrank=True, lowrank_seed=SEED)

    @property
    def directions(self) -> Tensor | None:
        """(count, in_features), or None before there were enough tokens in a batch."""
        return getattr(self._analysis, "components_", None)

    @property
    def shares(self) -> Tensor:
        """What share of the variance of the inputs is along each direction, (count,)."""
        shares: Tensor = self._analysis.explained_variance_ratio_
        return shares

    def see(self, inputs: Tensor) -> None:
        """Take in the inputs of a batch, (tokens, in_features)."""
        before = self.directions
        # The first decomposition is of the batch alone, and looks for twice as many directions.
        if len(inputs) < self.count * (2 if before is None else 1):
            return
        self._analysis.partial_fit(inputs.float())
        if before is not None:
            self.settled = functional.cosine_similarity(self._analysis.components_, before) >= ALIKE


def eva(paths: list[str], config: LoraConfig, batches: Iterable[TrainingBatch]) -> dict[str, Tensor]:
    """The factor A of each layer, (rank, in_features) by its path; a layer may get the rank 0.

    The directions of all layers are ordered by the share of their layer's variance, and as many of the first are taken as
    all ranks together. Layers that are given the same share one search.

    Args:
        paths: The layers, in the order of the model.
        config: Ranks, and how far they may grow.
        batches: Those of the run, looked at from the first on, again and again, until no direction moves.

    Raises:
        ConfigError: more directions than inputs have features, or than batches have tokens.
    """
    first = tokens_learnt_from(next(iter(batches)), paths)
    leaders = _leaders(paths, first)
    counts = dict.fromkeys(paths, 0)
    for path in paths:
        leader = leaders[path]
        counts[leader] = max(counts[leader], round(rank_at(config, path) * config.eva_rho))
    for path in paths:
        counts[path], features = counts[leaders[path]], first[path].shape[1]
        if 2 * counts[path] > features:
            raise ConfigError(
                f"lora: init=eva looks for rank x eva_rho = {counts[path]} directions in the inputs of '{path}', and finds "
                f"at most {features // 2} in {features} features; lower rank or eva_rho"
            )
    searches = {path: Search(counts[path]) for path in paths if leaders[path] == path}
    budget, ranks = sum(rank_at(config, path) for path in paths), counts
    for batch in _again_and_again(batches, searches):
        moving = [path for path, search in searches.items() if not search.settled[: ranks[path]].all()]
        if not moving:
            break
        for path, inputs in tokens_learnt_from(batch, moving).items():
            searches[path].see(inputs)
        if all(search.directions is not None for search in searches.values()):
            ranks = _ranks(searches, leaders, budget)
    starts = {path: searches[leaders[path]].directions for path in paths}
    missing = next((path for path, directions in starts.items() if directions is None), None)
    if missing is not None:
        raise ConfigError(
            f"lora: init=eva needs {2 * counts[missing]} tokens in a batch to find {counts[missing]} directions in the "
            f"inputs of '{missing}', and no batch has as many; raise the batch size, or lower rank or eva_rho"
        )
    return {path: directions[: ranks[path]].clone() for path, directions in starts.items() if directions is not None}


def _leaders(paths: list[str], inputs: Mapping[str, Tensor]) -> dict[str, str]:
    """For each layer the first one that is given the same."""
    leaders: dict[str, str] = {}
    for path in paths:
        same = (other for other in dict.fromkeys(leaders.values()) if torch.equal(inputs[other], inputs[path]))
        leaders[path] = next(same, path)
    return leaders


def _ranks(searches: Mapping[str, Search], leaders: Mapping[str, str], budget: int) -> dict[str, int]:
    """Share out the ranks; of layers that are given the same, the first has the most, for its search goes on the longest."""
    groups = {path: [other for other, leader in leaders.items() if leader == path] for path in searches}
    followers = [other for group in groups.values() for other in group[1:]]
    # In PEFT's order, which decides between equal shares.
    entries = [(path, share) for path in [*searches, *followers] for share in searches[leaders[path]].shares]
    order = torch.stack([share for _, share in entries]).argsort(descending=True)
    taken = Counter(entries[int(place)][0] for place in order[:budget])
    ranks = {path: taken[path] for path in leaders}
    for path in followers:
        leader = leaders[path]
        ranks[leader], ranks[path] = max(ranks[leader], ranks[path]), min(ranks[leader], ranks[path])
    return ranks


def _again_and_again(batches: Iterable[TrainingBatch], searches: Mapping[str, Search]) -> Iterator[TrainingBatch]:
    """The batches from the first on, then again, up to a number of them; not again where none had tokens enough."""
    seen = 0
    while seen == 0 or any(search.directions is not None for search in searches.values()):
        for batch in batches:
            if seen == MOST_BATCHES:
                return
            seen += 1
            yield batch
