"""A task: that it refuses what is no data for it, learns, adds up, and comes back from a file."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adapterhub_lite.data.request import Request
from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.plugins.spec import imported
from adapterhub_lite.testing.bench import distance
from adapterhub_lite.testing.check import Check, CheckFailed, demand

if TYPE_CHECKING:
    from adapterhub_lite.testing.task_bench import TaskBench
    from adapterhub_lite.training.attachment import Attachment

STEPS = 30
LARGEST_SHARE = 0.98
"""The loss after training is at most this share of the loss before."""
ROWS = 6
TOLERANCE = 1e-4
"""Of the largest loss or output; fp32."""


def check_task_has_a_problem(bench: TaskBench) -> None:
    """A plug-in brings a tiny model with data of the task, on which the other checks are run."""
    demand(
        bench.model is not None,
        f"no tiny model has a problem of '{bench.spec.name}'; bring one by the hook adapterhub_tiny_models",
    )


def check_task_refuses_what_is_no_data(bench: TaskBench) -> None:
    """A file that is not there and rows with other columns are refused by `read`, in words for the user."""
    sources = {"a file that is not there": Path("no/such/file.csv"), "rows of other columns": [{"no_such_column": "x"}]}
    for what, source in sources.items():
        try:
            imported(bench.spec.read)(source, Request(options=bench.config))
        except AdapterHubError as error:
            demand(bool(str(error).strip()), f"{what}: {type(error).__name__} has no message")
        except Exception as error:
            raise CheckFailed(f"{what}: read raised {type(error).__name__}: {error}; raise a DataError") from error
        else:
            raise CheckFailed(f"{what}: read took it without complaint; raise a DataError")


def check_task_learns(bench: TaskBench) -> None:
    """On the tiny problem, head and adapter bring the loss down."""
    attachment = bench.bench.attach(bench.bench.base())
    before = float(_losses(bench, attachment).mean())
    bench.bench.train(attachment, STEPS)
    after = float(_losses(bench, attachment).mean())
    demand(after < LARGEST_SHARE * before, f"the loss was {before:.3f} and is {after:.3f} after {STEPS} steps")


def check_task_adds_up(bench: TaskBench) -> None:
    """`losses` gives a loss for every target, which does not depend on the other rows of its batch."""
    attachment = bench.bench.attach(bench.bench.base())
    examples = bench.bench.encoded(attachment).examples[:ROWS]
    together = _losses(bench, attachment, ROWS)
    rows = sum(example.rows for example in examples)
    demand(together.shape[:1] == (rows,), f"losses gave {tuple(together.shape)} for {rows} targets; do not reduce them")
    alone = torch.cat([_losses(bench, attachment, 1, first) for first in range(ROWS)])
    difference = distance(together, alone)
    demand(
        difference <= TOLERANCE,
        f"in a batch, losses differ by {difference:.2g} of the largest from those of rows alone",
    )


def check_task_save_load(bench: TaskBench) -> None:
    """An adapter for the task, saved and loaded on a fresh base, predicts and scores the same."""
    attachment = bench.bench.attach(bench.bench.base())
    bench.bench.train(attachment, 2)
    expected = bench.bench.predictions(attachment)
    with tempfile.TemporaryDirectory() as folder:
        bench.bench.adapter(attachment).save(Path(folder, "adapter"))
        loaded = bench.bench.engine.load_adapter(Path(folder, "adapter"), base=bench.bench.base())
        difference = distance(bench.bench.predictions(loaded.attachment), expected)
    demand(
        difference <= TOLERANCE,
        f"the loaded adapter's outputs differ by {difference:.2g} of the largest; what the task takes from the training "
        "data belongs into Preprocessing.facts",
    )


def check_task_says_what_it_sees(bench: TaskBench) -> None:
    """Scores are finite numbers with the task's `metric` among them, and each input has a prediction of plain columns."""
    attachment = bench.bench.attach(bench.bench.base())
    adapter, problem = bench.bench.adapter(attachment), bench.bench.model.problem()
    scores, task = adapter.evaluate(problem).metrics, attachment.task
    demand(task.metric in scores, f"metrics gives {', '.join(scores)}, and not '{task.metric}', the task's metric")
    broken = [name for name, value in scores.items() if not math.isfinite(value)]
    demand(not broken, f"the score '{', '.join(broken)}' is not finite")
    if task.generates:
        return
    predicted = adapter.predict(list(problem.inputs))
    demand(len(predicted) == len(problem), f"there are {len(predicted)} predictions for {len(problem)} inputs")
    try:
        json.dumps([dict(one.columns()) for one in predicted], allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckFailed(f"the columns of a prediction are no JSON: {error}") from error


def _losses(bench: TaskBench, attachment: Attachment, rows: int = 16, first: int = 0) -> Tensor:
    """The loss of each target of some rows."""
    examples = bench.bench.encoded(attachment).examples[first : first + rows]
    with torch.no_grad():
        logits, targets = attachment.logits(attachment.task.collate(examples, attachment.base))
        assert targets is not None
        return attachment.task.losses(logits, targets)


def _has_model(bench: TaskBench) -> str | None:
    """There is a tiny model with a problem of the task."""
    return None if bench.model is not None else "there is no tiny model with a problem of the task"


CHECKS = (
    Check(check_task_has_a_problem, on="strategy"),
    Check(check_task_refuses_what_is_no_data, on="strategy"),
    Check(check_task_learns, _has_model),
    Check(check_task_adds_up, _has_model),
    Check(check_task_save_load, _has_model),
    Check(check_task_says_what_it_sees, _has_model),
)
