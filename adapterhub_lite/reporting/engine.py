"""An engine that leaves a report when a run is over, and that makes one of any adapter."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.comparison.engine import Engine as Comparing
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.names import check_choice, one_line
from adapterhub_lite.reporting.gather import gather
from adapterhub_lite.reporting.known import UNHURRIED, Known
from adapterhub_lite.reporting.outcome import Report
from adapterhub_lite.reporting.saved import saved_facts
from adapterhub_lite.training.processes import Processes
from adapterhub_lite.training.run.layout import run_folder_of

VARIABLE, WANTED = "ADAPTERHUB_REPORT", ("on", "no-examples", "off")
"""Whether a run leaves a report, and whether rows of its data are in it."""


class Engine(Comparing):
    """The engine of `adapterhub_lite.comparison.engine`, with reports on top."""

    def finished(self, adapter: Adapter, data: Dataset, held_out: Dataset | None) -> None:
        """Leave a report; see `leave_report`."""
        self.leave_report(adapter, data, held_out)

    def report(
        self,
        adapters: Adapter | str | Path | Sequence[Adapter | str | Path],
        *,
        data: Any = None,
        out: str | Path | None = None,
        examples: bool = True,
    ) -> Report:
        """Say on one page what an adapter learnt and where it fails, or compare several.

        Args:
            adapters: One or several, each trained or loaded in this process, or the directory of a saved one.
            data: Labelled rows to score them on first, as `evaluate` takes them; by default as they were scored in training.
            out: Where the page goes, if anywhere: one HTML file.
            examples: Show rows of the data: the most wrong ones, images, answers.

        Returns:
            The report; its `facts` are everything on the page as JSON, and in a notebook it is the page.

        Raises:
            AdapterNotFoundError, AdapterCorruptError: no such adapter, or not as it was saved.
            ConfigError: no adapter.
            DataError: rows that it cannot be scored on; names file, row and column.
            StorageError: the page cannot be written.
        """
        several = list(adapters) if isinstance(adapters, Sequence) and not isinstance(adapters, str) else [adapters]
        made = Report.of([self.facts_of(one, data, examples=examples) for one in several])
        made = made if examples else made.without_examples()
        if out is not None:
            made.save(out)
        return made

    def facts_of(
        self, adapter: Adapter | str | Path, data: Any = None, *, examples: bool = True, saved: Path | None = None
    ) -> dict[str, Any]:
        """The facts of the report of one adapter; arguments and errors are those of `report`.

        Args:
            saved: The directory that `adapter` was loaded from, whose manifest and run folder tell of its training.
        """
        if isinstance(adapter, str | Path):
            if data is None:
                return saved_facts(Path(adapter))
            saved = Path(adapter)
            adapter = self.load_adapter(saved)
        adapter = copy(adapter)  # that of the caller keeps its own scores
        if saved is not None:
            run = run_folder_of(saved)
            adapter.run_folder = run if run.is_dir() else None
        if data is not None:
            adapter.scored = adapter.evaluate(data)
            adapter.metrics = adapter.scored.record()
        rows = adapter.scored.rows if adapter.scored is not None else None
        held_out = rows.data if rows is not None else adapter.load_data(data) if data is not None else None
        known = Known.of(adapter, None, held_out, examples=examples, seconds=UNHURRIED)
        known.of_run, known.scored_anew = False, data is not None
        facts = gather(known, name=saved.name if saved is not None else "an adapter")
        if saved is not None:
            told = saved_facts(saved)
            recorded = {key: value for key, value in told["run"].items() if value is not None}
            facts |= {"machine": told["machine"], "run": {**facts["run"], **recorded}}
        return facts

    def leave_report(
        self,
        adapter: Adapter,
        data: Dataset,
        held_out: Dataset | None,
        command: str | None = None,
        folder: Path | None = None,
    ) -> str | None:
        """Leave report.html and report.json in the folder of the run, if it has one; a report that fails is said, and no more.

        The environment variable ADAPTERHUB_REPORT may say "off", or "no-examples" for one without rows of the data.

        Args:
            adapter: Trained in this process.
            data: What it learnt from.
            held_out: What it was scored on.
            command: That made it, if one did.
            folder: Where the report goes; by default the folder of the run.

        Returns:
            The path of the page; None where there is none.
        """
        folder = folder or adapter.run_folder
        if folder is None or not Processes().is_main:
            return None
        try:
            wanted = os.environ.get(VARIABLE, WANTED[0])
            check_choice(VARIABLE, wanted, WANTED)
            if wanted == "off":
                return None
            folder.mkdir(exist_ok=True)
            known = Known.of(adapter, data, held_out, examples=wanted == "on")
            name = folder.name.removesuffix(".run")
            return str(Report(gather(known, name=name, command=command)).leave(folder))
        except (Exception, KeyboardInterrupt) as error:  # whatever is wrong with a report, the adapter is there
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else one_line(error)
            self.progress.say(f"note: no report was left in {folder} ({why})")
            return None
