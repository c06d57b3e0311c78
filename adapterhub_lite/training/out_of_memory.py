"""When memory runs out: notice it, let go of what was computed, and try again with half as much at once."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from adapterhub_lite.base.heap import trim
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.shards import Shards
from adapterhub_lite.errors import TrainingError
from adapterhub_lite.names import human_size
from adapterhub_lite.plugins.strategy_call import is_out_of_memory

Result = TypeVar("Result")


@dataclass(frozen=True)
class RanOut:
    """An attempt that ran out of memory."""

    error: BaseException
    """What was raised; the local variables in its traceback are cleared."""
    need: str
    """How much memory it would have taken, for messages: ", needing at least 9.3 GiB of 8.0 GiB"; empty if unknown."""


def attempt(work: Callable[[], Result], device: torch.device, shards: Shards | None = None) -> Result | RanOut:
    """Do what may run out of memory, and free what it computed if it does.

    Args:
        work: Keeps what is large in local variables, which are cleared.
        device: Where it is done.
        shards: Of the base, if it is spread over processes: where one of them runs out of memory, all begin again.
    """
    handled = sys.exception()
    try:
        return _with_others(work, shards)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        _clear_variables(error, handled)
        if shards is not None:
            shards.begin_again(error)
        return RanOut(error, _need(error, device))


def _with_others(work: Callable[[], Result], shards: Shards | None) -> Result:
    """Do the work, and learn whether it went well in all processes. A function, so that its variables can be cleared."""
    result = work()
    if shards is not None:
        shards.check()
    return result


def in_batches(
    lengths: Sequence[int],
    at_once: int,
    work: Callable[[int, int], Result],
    base: Base,
    doing: str,
    *,
    by_length: bool = False,
) -> Iterator[Result]:
    """Work through examples in batches, which are halved from where memory runs out.

    Args:
        lengths: Length of each example, best in falling order, so that what does not fit is met first.
        at_once: Examples a batch.
        work: Called with the positions where a batch begins and ends; again for a part of them where memory ran out.
        base: Runs the examples. The processes of a sharded one have to call this alike.
        doing: What is done, for the error, such as "in evaluation with".
        by_length: `at_once` counts tokens instead, each example as long as the first of its batch.

    Yields:
        What `work` returns for each batch.

    Raises:
        TrainingError: a single example does not fit.
    """
    start = 0
    while start < len(lengths):
        cost = lengths[start] if by_length else 1
        stop = min(start + max(1, at_once // cost), len(lengths))
        done = attempt(partial(work, start, stop), base.device, base.shards)
        if not isinstance(done, RanOut):
            yield done
            start = stop
            continue
        if stop - start == 1:
            raise TrainingError(
                f"out of memory {doing} a single example of length {lengths[start]}{done.need}; "
                "use a shorter --max-length, --quantize nf4, or a smaller base"
            ) from done.error
        at_once = (stop - start) * cost // 2
        free(base.device)


def _clear_variables(error: BaseException | None, handled: BaseException | None) -> None:
    """Clear the local variables of functions that an error ended, and those behind it, as far back as `handled`."""
    if error is not None and error is not handled:
        traceback.clear_frames(error.__traceback__)
        _clear_variables(error.__cause__, handled)
        if error.__context__ is not error.__cause__:
            _clear_variables(error.__context__, handled)


def free(device: torch.device) -> None:
    """Give cached blocks back, so that the next try does not fail for fragments."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "cpu":
        trim()


def used(device: torch.device) -> str:
    """How much memory the program takes: on an accelerator the most so far, else what it holds of the machine's right now.

    The latter counts what was freed and is kept for later, and so grows until the longest batch has come.
    """
    if device.type == "cuda":
        return f"at most {human_size(torch.cuda.max_memory_allocated(device))}"
    import psutil

    return f"{human_size(psutil.Process().memory_info().rss)} held"


def _need(error: BaseException, device: torch.device) -> str:
    asked = re.search(r"[Tt]ried to allocate ([\d.]+) ([KMG]iB)", str(error))
    if asked is None or device.type != "cuda":
        return ""
    size = float(asked[1]) * {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}[asked[2]]
    total = torch.cuda.get_device_properties(device).total_memory / 2**30
    return f", needing at least {(torch.cuda.max_memory_allocated(device) + size) / 2**30:.1f} GiB of {total:.1f} GiB"
