"""`plan_memory`: what training takes on a base, of its configuration alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from adapterhub_lite.base.foreign import foreign_bases
from adapterhub_lite.base.precision import DTYPES, choose_dtype, dtype_name
from adapterhub_lite.cache import size_of
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import AdapterHubError, ConfigError, NotSupportedError, PluginError
from adapterhub_lite.names import QUANTIZATIONS, check_choice
from adapterhub_lite.plan.bases import imagined_base
from adapterhub_lite.plan.lengths import longest_rows
from adapterhub_lite.plan.outcome import Plan, StrategyPlan
from adapterhub_lite.plan.room import CARDS, GIB, room_in
from adapterhub_lite.plan.rows import first_rows, made_up_rows
from adapterhub_lite.plan.search import Search, Way, all_learnt, longest_of, stretched
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.shelf import strategy_shelf
from adapterhub_lite.tasks.catalog import Catalog
from adapterhub_lite.tasks.make import settled_task
from adapterhub_lite.tasks.task import encode
from adapterhub_lite.tasks.text import longest_input
from adapterhub_lite.training.config import TrainConfig

STRATEGIES = ("linear_probe", "prefix", "lora", "full")


def plan_memory(
    base: str | Path,
    task: str,
    *,
    strategies: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    data: Dataset | None = None,
    max_length: int | None = None,
    task_options: Mapping[str, Any] | None = None,
    config: TrainConfig | None = None,
    quantization: str = "none",
    dtype: str = "auto",
    device: str = "cuda",
    memory: str | int | None = None,
    plugins: Plugins | None = None,
) -> Plan:
    """Count the memory that training on a base takes, from its configuration alone, without weights and in seconds.

    The engine's own step is run, with nothing computed, and the storages that are alive are counted.

    Args:
        base: Its reference, or a folder with a config.json.
        task: What it is adapted to.
        strategies: Names; by default linear_probe, prefix, lora and full.
        settings: Options of strategies, as in {"lora.rank": 4}.
        data: Rows whose lengths count; without them all rows are as long as the longest may be.
        max_length: Tokens that rows are cut to.
        task_options: The task's other options.
        config: Batch size and so on.
        quantization: How the weights are held: none, nf4, fp4 or int8.
        dtype: What is computed in; auto is bfloat16 on a card.
        device: "cuda" for a card, which need not be here, or "cpu".
        memory: Bytes to stay below, or as text such as "8GiB".
        plugins: Those to use; the installed ones by default.

    Raises:
        BaseNotFoundError: there is no configuration.
        StrategyNotFoundError, ConfigError: an unknown strategy, task or option.
        NotSupportedError: no strategy goes with the base and the task.
    """
    check_choice("quantization", quantization, QUANTIZATIONS)
    check_choice("device", device, ("cuda", "cpu"))
    cap = size_of(memory, "--memory") if isinstance(memory, str) else memory
    plugins = plugins if plugins is not None else Plugins()
    tasks, shelf = Catalog(plugins), strategy_shelf(plugins)
    names = list(dict.fromkeys(strategies or STRATEGIES))
    options = options_by_strategy(names, settings or {})
    asked = [(shelf.resolve(name), shelf.configure(shelf.resolve(name), options[name])) for name in names]
    provided = tasks.resolve(task)
    wanted = {**(data.options if data is not None else {}), **(task_options or {})}
    if max_length is not None:
        wanted["max_length"] = max_length
    of_task = tasks.configure(provided, wanted)
    on_card, run = device == "cuda", config or TrainConfig()
    computes_in = DTYPES["bfloat16"] if on_card and dtype == "auto" else choose_dtype(dtype, torch.device("cpu"))
    planned = imagined_base(str(base), foreign_bases(plugins), quantization, computes_in, chosen=dtype != "auto")
    rows = first_rows(data) if data is not None else made_up_rows(plugins, task, planned)
    settled = settled_task(tasks, provided, planned, rows, of_task)
    examples = list(encode(settled, rows, planned).examples)
    if data is None:
        examples = [stretched(all_learnt(examples[0]), settled.preprocessing.max_length or 1)]
    longest = longest_of(examples)
    plans: dict[str, StrategyPlan] = {}
    refused: dict[str, str] = {}
    for strategy, chosen in asked:
        search = Search(planned, settled, strategy, chosen, run, on_card, longest)
        try:
            plans[strategy.spec.name] = planned_for(search, cap, on_card)
        except PluginError:
            raise
        except AdapterHubError as error:
            refused[strategy.spec.name] = str(error)
    if not plans:
        raise NotSupportedError("; ".join(refused.values()))
    length = longest(1)[0].length
    said = f"the longest of {len(rows)} rows" if data is not None else "made-up rows"
    return Plan(
        str(base), task, said, length, run.examples_a_step, quantization, dtype_name(planned.dtype), device, cap, plans,
        refused,
    )  # fmt: skip


def planned_for(search: Search, cap: int | None, on_card: bool) -> StrategyPlan:
    """The plan of one strategy."""
    given = search.run.activation_checkpointing, search.run.activation_offload
    as_asked = Way(*given, search.run.examples_at_once)
    whole = search.count(as_asked)
    way, chosen, fits = as_asked, whole, True
    if cap is not None:
        best = search.choose(room_in(cap, on_card=on_card))
        fits = best is not None
        way, chosen = best if best is not None else search.least()
    fitting = {size: search.choose(room_in(size * GIB, on_card=True)) for size in CARDS}
    return StrategyPlan(
        search.provided.spec.name, search.trainable, whole, way, chosen, fits, longest_for_cards(search),
        {size: found[0] if found is not None else None for size, found in fitting.items()},
    )  # fmt: skip


def longest_for_cards(search: Search) -> dict[int, int | None]:
    """The longest row for each card, computed one at a time and in the way that takes least."""
    example = search.longest(1)[0]
    if search.task.modality != "text" or not isinstance(example.inputs, list):
        return {}
    way = Way(*search.modes[-1], 1)

    def peak(length: int) -> int:
        count = search.count_of([stretched(example, length)], way)
        return count.peak + count.adapter  # the gradients of the rows before, which may be there and may not

    return longest_rows(peak, longest_input(search.base))


def options_by_strategy(names: Sequence[str], settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The options of each strategy; of one alone they need not say which.

    Raises:
        ConfigError: an option of no strategy that is planned for.
    """
    options: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in settings.items():
        name, dot, option = key.rpartition(".")
        if not dot and len(names) == 1:
            name = names[0]
        if name not in options:
            raise ConfigError(
                f"--set {key}={value}: say of which strategy, as in --set lora.rank=4; planned are {', '.join(names)}"
            )
        options[name][option] = value
    return options
