"""An audit from beginning to end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from adapterhub_lite.auditing.balance import balance
from adapterhub_lite.auditing.chats import chats
from adapterhub_lite.auditing.enough import enough
from adapterhub_lite.auditing.finding import DATA, HELD_OUT, Finding
from adapterhub_lite.auditing.material import Material, Side, side_of
from adapterhub_lite.auditing.needs import check_needs
from adapterhub_lite.auditing.outcome import Audit, sorted_findings
from adapterhub_lite.auditing.personal import personal_data
from adapterhub_lite.auditing.shift import shift
from adapterhub_lite.auditing.shortcuts import shortcuts
from adapterhub_lite.auditing.slices import slices as slices_of
from adapterhub_lite.auditing.splits import groups_in_both
from adapterhub_lite.auditing.twins import twins
from adapterhub_lite.auditing.wrong_labels import wrong_labels
from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.roles.columns import find_column
from adapterhub_lite.errors import AdapterHubError, DataError
from adapterhub_lite.plugins.shelf import Shelf
from adapterhub_lite.plugins.spec import StrategySpec
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.catalog import Catalog
from adapterhub_lite.tasks.make import settled_task


def look_through(
    data: Dataset,
    held_out: Dataset | None,
    base: Base | None,
    slices: Sequence[str],
    *,
    tasks: Catalog,
    strategies: Shelf[StrategySpec],
    progress: Progress,
    seed: int = 0,
) -> Audit:
    """Look for everything in data to learn from, and in rows to score on.

    Args:
        data: Rows to learn from.
        held_out: Rows to score on, or of the deployment.
        base: Gives features; without one, what needs these is not looked for, and that is said.
        slices: Columns that rows are compared by.
        tasks, strategies: Those that are installed.
        progress: Shows the work.
        seed: Of samples and folds.

    Raises:
        ConfigError: a library of the extra `audit` is not installed.
        DataError: no such column, or a file that cannot be read.
    """
    from adapterhub_lite.auditing.learnt import learning

    started = time.monotonic()
    provided = tasks.resolve(data.task)
    modality = provided.spec.modality
    check_needs(modality, with_base=base is not None, with_slices=bool(slices))
    side = side_of(data, modality, seed=seed)
    other = None if held_out is None else side_of(held_out, modality, held_out=True, seed=seed)
    material = Material(side, other, modality, {name: _column(side, name) for name in slices}, seed=seed)
    notes = [
        f"{part.name}: all {len(part):,} rows were looked at for equal rows, labels and personal data; what compares rows or "
        f"takes features is of {len(part.sampled):,} drawn by chance (seed {seed})"
        for part in material.sides
        if len(part.sampled) < len(part)
    ]
    with ExitStack() as stack:
        if base is not None:
            try:
                task = settled_task(tasks, provided, base, data, tasks.configure(provided, data.options))
                learnt = stack.enter_context(learning(base, task, strategies, side, other, seed, progress))
                material = replace(material, learnt=learnt)
            except AdapterHubError as error:
                material = replace(material, why_not_learnt=str(error))
        if material.learnt is None:
            notes.append(f"looked without features: {material.why_not_learnt}")
        findings = looked_for(material, progress)
    datasets = {DATA: data} if held_out is None else {DATA: data, HELD_OUT: held_out}
    return Audit(
        data.source, len(data), None if held_out is None else held_out.source, 0 if held_out is None else len(held_out),
        sorted_findings(findings), notes, round(time.monotonic() - started, 1), datasets,
    )  # fmt: skip


def looked_for(material: Material, progress: Progress) -> list[Finding]:
    """All findings, one room after the other."""
    labels: list[Finding] = []
    with progress.bar("looking", 10, "findings") as bar:
        labels = wrong_labels(material)
        bar.advance(1, "label errors")
        told = [*labels, *twins(material)]
        bar.advance(3, "rows that come twice")
        told += [*groups_in_both(material), *balance(material)]
        bar.advance(1, "balance")
        told += shortcuts(material)
        bar.advance(2, "shortcuts")
        told += slices_of(material, labels[0].rows if labels else ())
        bar.advance(1, "slices")
        told += [*shift(material), *enough(material), *chats(material)]
        if material.modality == "text":
            told.append(
                personal_data([(side.name, side.personal) for side in material.sides], sum(map(len, material.sides)))
            )
        bar.advance(2, "")
    return told


def _column(side: Side, name: str) -> list[str]:
    values, table = side.column(name), side.dataset.table
    if values is None and table is not None:
        find_column(table, name, "slices")
    if values is None:
        raise DataError(
            f"{side.dataset.source}: has no column {name!r} with a value for each input; leave it out of --slices"
        )
    return values
