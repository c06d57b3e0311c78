"""`adapterhub-lite evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from adapterhub_lite.adapter.sampling import Sampling
from adapterhub_lite.cli.options import AdapterPath, AsJson, Columns, DataFile, Loading
from adapterhub_lite.cli.output import plain_console, print_json
from adapterhub_lite.cli.rows import check_target, checked_data
from adapterhub_lite.cli.score_function import imported_function
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import Flag
from adapterhub_lite.scoring.rules import Choices
from adapterhub_lite.storage import rewrite_task
from adapterhub_lite.tasks.outputs import ClassColumns


class Answers(BaseModel):
    """Whether and how the answers of a language model are scored."""

    answers: bool = Field(
        False, description="Let a language model answer the prompts, and score the answers beside those of the data."
    )
    extract: Annotated[str | None, Flag(metavar="REGEX")] = Field(
        None,
        description="Compare the last match of this in an answer, or its first group, as well; as numbers where they are.",
    )
    score: Annotated[str | None, Flag(metavar="MODULE:FUNCTION")] = Field(
        None,
        description="Your own score: called with an answer and the wanted one, it returns whether the answer is right.",
    )
    no_bare: bool = Field(False, description="Leave out the answers of the bare base, which are scored beside them.")
    sampling: Sampling = Field(default_factory=Sampling, description="How answers are made")

    @property
    def wanted(self) -> bool:
        """Whether answers are scored.

        Raises:
            ConfigError: they are not, and there are options for them.
        """
        wanted = self.answers or self.extract is not None or self.score is not None
        if not wanted and (self.no_bare or self.sampling.model_fields_set):
            raise ConfigError("how a language model answers is asked for, and not that it does; give --answers as well")
        return wanted


class Rows(BaseModel):
    """What is written beside the scores."""

    predictions: Annotated[str | None, Flag(metavar="FILE")] = Field(
        None,
        description="Write every row with what was wanted, what was predicted and its probability: .csv, .tsv, .jsonl or "
        ".parquet.",
    )
    probabilities: Annotated[str, Flag(metavar="WHICH")] = Field(
        "none", description="Probabilities of classes in that file: none, all, or top:N, as of predict."
    )
    charts: Annotated[str | None, Flag(metavar="DIR")] = Field(
        None, description="Write charts to this folder, as PNG; needs matplotlib."
    )


class Chosen(BaseModel):
    """What is chosen on the rows; the scores that are then shown flatter, and the notes say how much is to be expected."""

    abstain: Annotated[str | None, Flag(metavar="RULE")] = Field(
        None, description="As of train: coverage=0.9, precision=0.95 or threshold=0.5; off answers every row."
    )
    label_thresholds: Annotated[str | None, Flag(metavar="RULE")] = Field(
        None, description="As of train: f1 or precision=0.9; off takes a half for all labels."
    )
    calibrate: bool = Field(False, description="Choose a temperature, as train does.")
    save: bool = Field(False, description="Save the adapter with what is chosen; these must not be rows of training.")

    def choices(self) -> Choices | None:
        """What is asked for, if anything.

        Raises:
            ConfigError: no such rule, or nothing to save.
        """
        choices = Choices.of(abstain=self.abstain, label_thresholds=self.label_thresholds, calibrate=self.calibrate)
        if choices != Choices():
            return choices
        if self.save:
            raise ConfigError("--save keeps what is chosen; give --abstain, --label-thresholds or --calibrate as well")
        return None


def evaluate(
    adapter: AdapterPath,
    data: DataFile,
    loading: Loading,
    columns: Columns,
    rows: Rows,
    chosen: Chosen,
    answers: Answers,
    json_: AsJson = False,
) -> None:
    """Score an adapter on labelled data."""
    wanted, score = answers.wanted, imported_function(answers.score) if answers.score is not None else None
    target = check_target(rows.predictions, "--predictions") if rows.predictions is not None else None
    probabilities, choices = ClassColumns.parse(rows.probabilities), chosen.choices()
    from adapterhub_lite.scoring.charts import check_charts, draw

    charts = check_charts(rows.charts) if rows.charts is not None else None
    dataset = checked_data(adapter, data, columns, require_labels=True, keep_unknown=True)
    from adapterhub_lite.data.write import write_rows
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.evaluation.tables import tables_of

    loaded = Engine().load_adapter(adapter, base=loading.base, device=loading.device, force=loading.force)
    if loaded.attachment.task.generates and (rows.model_fields_set or choices is not None):
        raise ConfigError(
            "a language model has no classes: predictions, charts and thresholds are not for it; leave them out"
        )
    if wanted:
        options = answers.sampling.model_dump(exclude_unset=True)
        result = loaded.evaluate_answers(
            dataset, extract=answers.extract, score=score, bare=not answers.no_bare, **options
        )
    else:
        result = loaded.evaluate(dataset, choices=choices)
    if target is not None and result.rows is not None and dataset.table is not None:
        write_rows(target, dataset.table, result.rows.columns(probabilities))
    drawn = draw(result.detail, charts) if charts is not None else []
    if chosen.save:
        rewrite_task(Path(adapter), loaded.task_record())
    if json_:
        decision = loaded.attachment.task.decision.model_dump(mode="json")
        print_json({**result.in_full(), "decision": decision, "charts": [str(path) for path in drawn]})
        return
    console = plain_console()
    for table in tables_of(result, f"{adapter} on {data}, {result.n} rows"):
        console.print(table)
    for note in result.notes:
        console.print(f"note: {note}")
    for path in (*([target] if target is not None else []), *drawn):
        console.print(f"written: {path}")
