"""What a run learns from, and what it is scored on. No torch here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapterhub_lite.cli.run_file import RunFile
    from adapterhub_lite.data.dataset import Dataset
    from adapterhub_lite.tasks.catalog import Catalog
    from adapterhub_lite.tasks.spec import TaskOptions


def read_rows(run: RunFile, catalog: Catalog, options: TaskOptions | None = None) -> tuple[Dataset, Dataset | None]:
    """Read and check the data of a run.

    Rows are held out first, by group where there is a group column, and only what is left is sampled, so that the scores
    of several sizes are on the same rows.

    Args:
        run: Names the files, columns and shares.
        catalog: The tasks.
        options: Those of the task, where they were built from the run's already.

    Returns:
        What to learn from, and what to score on, if anything.

    Raises:
        DataError: bad data; names file, row and column.
    """
    from adapterhub_lite.adapter.read import read_like
    from adapterhub_lite.data.sampling import subsample
    from adapterhub_lite.data.splits import split
    from adapterhub_lite.tasks.catalog import read_data

    dataset = read_data(catalog, run.data, run.task, columns=run.columns, options=options or run.task_options)
    held_out = None
    if run.eval_data is not None:
        held_out = read_like(catalog, dataset, run.eval_data, run.columns)
    elif run.hold_out is not None:
        dataset, held_out = split(dataset, run.hold_out, seed=run.training.seed, groups=dataset.groups)
    if run.shots is not None or run.fraction is not None:
        dataset = subsample(dataset, shots=run.shots, fraction=run.fraction, seed=run.training.seed)
    return dataset, held_out
