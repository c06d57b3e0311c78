"""Fitting one contender to some rows and scoring it on others, or recalling what came of that before."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.base.loading import Base
from adapterhub_lite.comparison.about import about_contender, about_place, about_rows
from adapterhub_lite.comparison.bars import OnlyBars
from adapterhub_lite.comparison.baselines import Problem
from adapterhub_lite.comparison.contenders import Contender
from adapterhub_lite.comparison.judge import Judge
from adapterhub_lite.comparison.kept import Result, keep, key_of, recall
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.roles.groups import numbered
from adapterhub_lite.engine import Engine
from adapterhub_lite.interrupt import listener
from adapterhub_lite.tasks.head import HeadTask
from adapterhub_lite.tasks.task import Encoded, encode
from adapterhub_lite.training.checks import CheckedRun
from adapterhub_lite.training.config import EPOCHS, OFF
from adapterhub_lite.training.evaluate import outputs, token_losses
from adapterhub_lite.training.features import encode_features
from adapterhub_lite.training.run.place import Place


class Workshop:
    """One base, one task and one data set, on which contenders are fitted.

    Args:
        engine: Trains.
        base: What adapters go on.
        whole: All rows to learn from: scales of inputs and targets are taken from these, whatever part is learnt from.
        task_options: The task's options, over those the data was read with.
        seed: Of the run.
    """

    def __init__(self, engine: Engine, base: Base, whole: Dataset, task_options: Mapping[str, Any], seed: int):
        self.engine, self.base, self.whole, self._seed = engine, base, whole, seed
        self.task = engine.task_for(base, whole, task_options)
        self._bars = OnlyBars(engine.progress)
        self._quiet = Engine(engine.plugins, self._bars)
        self._made: dict[str, Result] = {}
        self._encoded: dict[int, Encoded] = {}
        self._kept_alive: list[Dataset] = []
        self._about_place = about_place(base, self.task, seed)
        self._about: dict[int, str] = {}

    def encoded(self, data: Dataset) -> Encoded:
        """The examples of a data set, made once."""
        if id(data) not in self._encoded:
            self.base.activate(None)
            self._encoded[id(data)] = encode(self.task, data, self.base)
            self._kept_alive.append(data)  # so that no other one gets its id
        return self._encoded[id(data)]

    def share_features(self, data: Dataset, taking_part: Sequence[Contender]) -> None:
        """Run the bare base over rows once for all probes, as training on all of them would."""
        if any(contender.solves for contender in taking_part) and not self.task.generates:
            encode_features(self.base, self.task, self.encoded(data), self._bars)

    def judge(self, parts: Sequence[Dataset]) -> Judge:
        """What scores outputs for the rows of these data sets, one behind the other."""
        examples = [example for data in parts for example in self.encoded(data).examples]
        # Groups are numbered in each part by itself, and none is in two parts.
        groups = [(part, group) for part, data in enumerate(parts) for group in self.encoded(data).groups or ()]
        return Judge(self.task, examples, self._targets(examples), numbered(groups) if groups else None)

    def result(
        self, contender: Contender, learn: Dataset, score: Dataset | None, share: float = 1.0, *, saved: bool = False
    ) -> Result:
        """Fit a contender to rows and let it speak about others.

        Args:
            contender: Who.
            learn: What it is fitted to.
            score: What it is scored on; its outputs for these are in the result. None for none.
            share: Of the steps that it would take.
            saved: Its adapter is wanted as well.

        Raises:
            AdapterHubError: it cannot be fitted; the base is as it was.
        """
        rows = self._about_rows(learn), None if score is None else self._about_rows(score)
        key = key_of([self._about_place, about_contender(contender), rows, share])
        wanted = saved and contender.run is not None
        known = self._made.get(key) or recall(key, adapter=wanted)
        if known is None or (wanted and known.adapter is None and known.bundle is None):
            self._bars.name = contender.name
            known = self._fitted(contender, learn, score, share, wanted)
            if not wanted and known.adapter is not None:
                known.adapter.detach()
                known.adapter = None
            keep(key, known)
        self._made[key] = known
        return known

    def let_go(self, kept: Result) -> None:
        """Take all adapters off the base but one."""
        for result in self._made.values():
            if result is not kept and result.adapter is not None:
                result.adapter.detach()
                result.adapter = None

    def adapter(self, result: Result) -> Adapter:
        """The adapter of a result, on the base."""
        if result.adapter is None:
            assert result.bundle is not None
            result.adapter = self._quiet.load_adapter(result.bundle, base=self.base)
        result.adapter.progress = self.engine.progress
        return result.adapter

    def _fitted(self, contender: Contender, learn: Dataset, score: Dataset | None, share: float, saved: bool) -> Result:
        started = time.monotonic()
        said, trained, size, steps, adapter = torch.empty(0), 0, 0, 0, None
        if contender.run is not None:
            adapter = self._quiet.train_checked(
                self.base, learn, None, _shortened(contender.run, share, saved), Place(None, False, None, listener()),
                settled_on=self.whole,
            )  # fmt: skip
            tensors = adapter.attachment.tensors.values()
            trained, size = adapter.trainable, sum(tensor.nbytes for tensor in tensors)
            steps = int(adapter.training.get("steps", 0))
            said = self._said(adapter, score) if score is not None else said
        elif score is not None and contender.fit is not None:
            assert isinstance(self.task, HeadTask)
            problem = Problem(
                self.task, self.base, self.encoded(learn), self.encoded(score), (learn.inputs, score.inputs), self._seed,
                self._bars,
            )  # fmt: skip
            said, trained = contender.fit(problem)
            size = trained * 8  # which scikit-learn holds in double precision
        elif score is not None:
            self.base.activate(None)
            said, _ = token_losses(
                self.base,
                self.task,
                partial(self.task.target_losses, self.base, None),
                self.encoded(score),
                self._bars,
            )
        return Result(said, round(time.monotonic() - started, 2), steps, trained, size, adapter)

    def _said(self, adapter: Adapter, score: Dataset) -> Tensor:
        attachment = adapter.attachment
        with self.base.lock:
            adapter.use()  # it may have tokens of its own
            encoded = encode(attachment.task, score, self.base)
            if attachment.task.generates:
                return token_losses(self.base, attachment.task, attachment.target_losses, encoded, self._bars)[0]
            return outputs(attachment, encoded, self._bars)[0]

    def _about_rows(self, data: Dataset) -> str:
        if id(data) not in self._about:
            self._about[id(data)] = key_of(about_rows(self.encoded(data)))
        return self._about[id(data)]

    def _targets(self, examples: Sequence[Any]) -> Tensor | None:
        if self.task.generates:
            return None
        if isinstance(self.task, HeadTask):
            return self.task.targets(examples)
        parts = [self.task.collate([example], self.base)["targets"] for example in examples]
        return torch.cat(parts)


def _shortened(run: CheckedRun, share: float, saved: bool) -> CheckedRun:
    """The same run with a share of its steps, and with a measure of what is forgotten only where the adapter is wanted."""
    config = run.config
    changes: dict[str, Any] = {} if saved else {"general_text": OFF}
    if share != 1.0:
        changes["epochs"] = (config.epochs or EPOCHS) * share
        if config.steps is not None:
            changes["steps"] = max(1, round(config.steps * share))
    return replace(run, config=config.model_copy(update=changes))
