"""An engine that also compares and audits, and that trains with `strategy="auto"` what a comparison chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.adapter.read import parts_of, read_like
from adapterhub_lite.auditing.outcome import Audit
from adapterhub_lite.auditing.run import look_through
from adapterhub_lite.base.loading import Base
from adapterhub_lite.comparison.asked import Asked
from adapterhub_lite.comparison.outcome import Comparison
from adapterhub_lite.comparison.run import Choice, compare
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine as Training
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.interrupt import Interrupt
from adapterhub_lite.progress import silenced
from adapterhub_lite.training.checks import check_arguments
from adapterhub_lite.training.config import TrainConfig

AUTO = "auto"
HELD_OUT = 0.2


class Engine(Training):
    """The engine of `adapterhub_lite.engine`, with comparisons and audits on top."""

    def audit(
        self,
        data: Dataset,
        *,
        eval_data: Any = None,
        base: Base | None = None,
        slices: Sequence[str] = (),
        seed: int = 0,
    ) -> Audit:
        """Look for what is wrong with data before anything is learnt from it; nothing is changed.

        Args:
            data: From `load_data`.
            eval_data: Rows to score on, or a sample of the deployment, which may be without a column of labels.
            base: From `load_base`; without one, what needs features is not looked for: wrong labels, slices, paraphrases.
            slices: Columns that rows are compared by, such as a hospital or who labelled.
            seed: Of samples and folds.

        Raises:
            ConfigError: a library is not installed that `pip install 'adapterhub-lite[audit]'` brings; labels of `eval_data`
                are not those of `data`.
            DataError: bad rows to score on, or no such column.
        """
        check_arguments(base, data, eval_data, None, None, None, resume=False)
        held_out = eval_data
        if eval_data is not None and not isinstance(eval_data, Dataset):
            held_out = read_like(self.task_shelf, data, eval_data, require_labels=False)
            has_column = not data.columns.keys() - held_out.columns.keys() - {"group"}
            if held_out.targets is None and data.targets is not None and has_column:
                held_out = read_like(self.task_shelf, data, eval_data)  # says which row has no label
        elif eval_data is not None and eval_data.targets is not None and eval_data.labels != data.labels:
            raise ConfigError(
                f"eval_data ({eval_data.source}): its labels are numbered otherwise than those of the data; give the file "
                "itself, or read it with load_data(..., labels=data.labels)"
            )
        return look_through(
            data, held_out, base, slices, tasks=self.task_shelf, strategies=self.strategy_shelf, progress=self.progress,
            seed=seed,
        )  # fmt: skip

    def compare(
        self,
        base: Base,
        data: Dataset,
        *,
        strategies: Sequence[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        eval_data: Any = None,
        hold_out: float | None = None,
        config: TrainConfig | None = None,
        task_options: Mapping[str, Any] | None = None,
        baselines: bool = True,
        choose_on: Choice = "validation",
        minutes: float = 60.0,
        out: str | Path | None = None,
        progress: bool = True,
    ) -> Comparison:
        """Fit baselines and strategies to the same rows, and say which is best, and whether that could be chance.

        They are chosen by parts of the training rows that are held out in turn, and then fitted to all of these and scored
        on rows that nothing was chosen by. Strategies with steps are tried with a few settings and a quarter of the steps
        first; those that are clearly worse go no further (after Jamieson and Talwalkar 2016, arXiv:1502.07943).

        Args:
            base: From `load_base`; the best adapter stays on it.
            data: From `load_data`.
            strategies: Names; by default linear_probe, lora and full, of a language model prefix, lora and full.
            settings: Options of strategies, as in {"lora.rank": 4}.
            eval_data: Rows to score on.
            hold_out: Without `eval_data` the share of the rows that is scored on; 0.2 by default, and 0 for none.
            config: Epochs, batch size and so on, for all that take steps.
            task_options: The task's options, over those the data was read with.
            baselines: Compare with models without a base as well.
            choose_on: "validation", or "held-out" to choose by the rows that are scored on, which is quicker and optimistic.
            minutes: A contender that would take longer, by its first try, is left out.
            out: Where the best adapter is saved.
            progress: Show how far it is; warnings are shown all the same.

        Raises:
            StrategyNotFoundError, ConfigError: an unknown strategy or option.
            DataError: too few rows to hold any out.
            NotSupportedError: the task does not go with the base, or no strategy does.
            TrainingError: every strategy failed.
        """
        check_arguments(base, data, eval_data, hold_out, config, None, resume=False)
        share, engine = HELD_OUT if hold_out is None else hold_out, self if progress else silenced(self)
        data, held_out = parts_of(data, eval_data, share, config or TrainConfig(), self.task_shelf, engine.progress)
        asked = Asked(strategies, settings, config, baselines)
        compared = compare(
            engine, base, data, held_out, asked, task_options=task_options or {}, choose_on=choose_on, minutes=minutes
        )
        if out is not None:
            assert compared.adapter is not None
            compared.adapter.save(out)
        return compared

    def train(
        self,
        base: Base,
        data: Dataset,
        *,
        strategy: str | None = None,
        settings: Mapping[str, Any] | None = None,
        eval_data: Any = None,
        hold_out: float | None = None,
        config: TrainConfig | None = None,
        task_options: Mapping[str, Any] | None = None,
        run_folder: str | Path | None = None,
        resume: bool = False,
        run_file: str | None = None,
        interrupt: Interrupt | None = None,
        callbacks: Sequence[object] = (),
        from_adapter: str | Path | None = None,
        progress: bool = True,
    ) -> Adapter:
        """As `adapterhub_lite.engine.Engine.train`; with strategy "auto" the adapter that `compare` finds best.

        Its `training["comparison"]` says how the others fared. Options of strategies are then given as in {"lora.rank": 4}.

        Raises:
            ConfigError: with "auto", what goes with one strategy alone: a run folder, callbacks, or an adapter to go on with.
        """
        if strategy != AUTO:
            return super().train(
                base, data, strategy=strategy, settings=settings, eval_data=eval_data, hold_out=hold_out, config=config,
                task_options=task_options, run_folder=run_folder, resume=resume, run_file=run_file, interrupt=interrupt,
                callbacks=callbacks, from_adapter=from_adapter, progress=progress,
            )  # fmt: skip
        given = {"run_folder": run_folder, "resume": resume, "callbacks": callbacks, "from_adapter": from_adapter}
        for name, value in given.items():
            if value:
                raise ConfigError(
                    f"{name} goes with one strategy, and 'auto' trains several; name the one that you want"
                )
        check_arguments(base, data, eval_data, hold_out, config, None, resume=False)
        engine = self if progress else silenced(self)
        data, held_out = parts_of(data, eval_data, hold_out, config or TrainConfig(), self.task_shelf, engine.progress)
        compared = compare(engine, base, data, held_out, Asked(None, settings, config), task_options=task_options or {})
        assert compared.adapter is not None
        return compared.adapter
