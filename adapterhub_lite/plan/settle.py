"""The way to train that stays below a size of memory, for a run that is about to begin."""

from __future__ import annotations

from collections.abc import Callable

from adapterhub_lite.base.loading import Base
from adapterhub_lite.cache import size_of
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.plan.bases import imagined_like
from adapterhub_lite.plan.outcome import no_room
from adapterhub_lite.plan.room import in_gib, room_in
from adapterhub_lite.plan.search import Search, Way, in_words, longest_of
from adapterhub_lite.tasks.task import Encoded, Task
from adapterhub_lite.training.checks import CheckedRun
from adapterhub_lite.training.config import TrainConfig


def settled_for_memory(
    base: Base, task: Task, run: CheckedRun, data: Encoded, say: Callable[[str], None]
) -> TrainConfig:
    """The options of a run with the way chosen in which every step stays below `run.config.memory`; says which and why.

    Every batch of the data takes at most what one of the longest examples takes, which is counted. A smaller batch at once
    that the user asked for stays, and so does computing activations again.

    Raises:
        NotSupportedError: not even one example at once stays below; names the smallest memory that works.
    """
    config = run.config
    if config.memory is None:
        return config
    on_card = base.device.type != "cpu"
    memory, mounted = size_of(config.memory, "--memory"), base.active
    base.activate(None)
    try:
        planned = imagined_like(base) if on_card else base
        search = Search(planned, task, run.strategy, run.settings, config, on_card, longest_of(data.examples))
        found = search.choose(room_in(memory, on_card=on_card))
        if found is None:
            step = f"one example of length {search.longest(1)[0].length} with {run.strategy.spec.name}"
            raise NotSupportedError(no_room(memory, search.least()[1], step, base.quantization, on_card=on_card))
    finally:
        base.activate(mounted)
    way, count = found
    whole = search.count(Way(*search.modes[0], config.examples_at_once)).peak
    why = "" if whole <= count.peak else f", since otherwise it would take {in_gib(whole)}"
    say(f"--memory {config.memory}: {in_words(way, config.examples_a_step)}; a step takes {in_gib(count.peak)}{why}")
    return config.model_copy(update=way.options())
