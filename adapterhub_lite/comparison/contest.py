"""Who is best: a small budget for everyone who trains, the whole one for those not clearly worse, and a winner."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from adapterhub_lite.comparison.entry import Entry
from adapterhub_lite.comparison.folds import Turn
from adapterhub_lite.comparison.judge import Difference, Judge
from adapterhub_lite.comparison.kept import Result
from adapterhub_lite.comparison.workshop import Workshop
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import AdapterHubError, TrainingError

TRY = 0.25
"""Share of its steps that a contender with steps gets first."""


class Contest:
    """A comparison while it runs.

    Args:
        workshop: Fits contenders.
        entries: Those who take part.
        turns: Rows to learn from and rows to choose by, once or several times.
        minutes: What would take longer, by its first try, is left out.
        say: Tells what came of each.
    """

    def __init__(
        self,
        workshop: Workshop,
        entries: Sequence[Entry],
        turns: Sequence[Turn],
        minutes: float,
        say: Callable[[str], None],
    ):
        self._workshop, self.entries, self.turns, self._minutes, self._say = workshop, entries, turns, minutes, say
        self.judge = workshop.judge([score for _, score in turns])
        self.error: AdapterHubError | None = None
        self._said: dict[str, Tensor] = {}

    def running(self, *, adapters: bool = False) -> list[Entry]:
        """Those still in it, or of these the ones that have an adapter."""
        return [entry for entry in self.entries if entry.out is None and (entry.contender.run or not adapters)]

    def choose(self) -> None:
        """Find out who goes on to the rows that nothing is chosen by: of each family the best.

        Raises:
            AdapterHubError: every strategy failed.
        """
        self._try_out()
        for entry in self.running():
            for learn, score in self.turns:
                result = self._attempt(entry, learn, score, saved=learn is self._workshop.whole)
                if result is None:
                    break
                entry.chosen_by.append(result)
            else:
                self._tell(entry, entry.chosen_by, self.judge, "on the rows to choose by")
        self._refuse_nobody()
        self._said = {entry.name: torch.cat([part.said for part in entry.chosen_by]) for entry in self.running()}
        self._rank(self.judge, self._said)
        for family in {entry.contender.family: None for entry in self.running()}:
            self._one_of(family, 1, "with another setting")
        differences = self._differences(self.running())
        for entry in self.running():
            entry.choosing = differences[entry.name]

    def winner(self, *, adapters: bool = False) -> Entry:
        """The cheapest of those, or of the adapters, that chance could have put behind the best one."""
        able = self.running(adapters=adapters)
        differences = self._differences(able)
        return min((entry for entry in able if not differences[entry.name].apart), key=lambda entry: entry.price)

    def finish(self, learn: Dataset, score: Dataset | None) -> tuple[Entry, Entry]:
        """Fit everyone left to all rows to learn from, and let them speak about rows that nothing was chosen by.

        Returns:
            The winner, and the best adapter, which has its adapter in its last result.

        Raises:
            AdapterHubError: every strategy failed.
        """
        best = self.winner(adapters=True)
        while best.last is None:
            best.last = self._attempt(best, learn, score, saved=True)
            self._refuse_nobody()
            best = self.winner(adapters=True)
        if score is not None:
            judge = self._workshop.judge([score])
            for entry in self.running():
                entry.last = entry.last or self._attempt(entry, learn, score)
                if entry.last is not None:
                    self._tell(entry, [entry.last], judge, "learnt from all rows, on held-out rows")
        self._workshop.let_go(best.last)
        return self.winner(), best

    @property
    def runs(self) -> int:
        """How often a contender that stays in is fitted: once a turn, and to all rows, where that is no turn."""
        return len(self.turns) + (self.turns[0][0] is not self._workshop.whole)

    def steps(self) -> tuple[int, int]:
        """Steps that were taken, and those that every setting would have taken with all its steps in every run."""
        taken, whole = 0, 0
        for entry in self.entries:
            taken += sum({id(result): result.steps for result in entry.results}.values())
            full = [result.steps for result in (*entry.chosen_by, entry.last) if result is not None]
            tried = math.ceil(entry.first.steps / TRY) if entry.first else 0
            whole += max(full, default=tried) * self.runs
        return taken, whole

    def _try_out(self) -> None:
        """Give everyone with steps a share of them, and leave out who is clearly worse, or would take too long."""
        tried = [entry for entry in self.running(adapters=True) if not entry.contender.solves]
        if len(tried) < 2:
            return
        learn, score = self.turns[0]
        judge = self._workshop.judge([score])
        for entry in tried:
            entry.first = self._attempt(entry, learn, score, TRY)
            if entry.first is not None:
                self._tell(entry, [entry.first], judge, f"with {TRY:.0%} of its steps")
        tried = [entry for entry in tried if entry.out is None]
        if not tried:
            return
        said = {entry.name: entry.first.said for entry in tried if entry.first is not None}
        self._rank(judge, said)
        best = self._best(tried)
        for name, difference in judge.differences(said, best.name).items():
            entry = next(entry for entry in tried if entry.name == name)
            if difference.apart:
                entry.out = f"clearly worse than {best.name} with {TRY:.0%} of the steps"
            elif entry.first is not None:
                expected = entry.first.seconds / TRY * self.runs / 60
                if expected > self._minutes:
                    entry.out = f"would take about {expected:.0f} minutes, more than --minutes {self._minutes:g}"
        for family in {entry.contender.family for entry in tried}:
            there = [entry for entry in self.running() if entry.contender.family == family]
            self._one_of(family, math.ceil(len(there) / 2), f"with {TRY:.0%} of the steps with another setting")

    def _differences(self, entries: Sequence[Entry]) -> dict[str, Difference]:
        """How each differs from the best one of them, on the rows that they are chosen by."""
        return self.judge.differences({e.name: self._said[e.name] for e in entries}, self._best(entries).name)

    def _one_of(self, family: str, keep: int, how: str) -> None:
        """Of several settings of one strategy, let the best ones go on; of equal ones the first."""
        there = [entry for entry in self.running() if entry.contender.family == family]
        sign = -1 if self.judge.higher_is_better else 1
        for entry in sorted(there, key=lambda entry: sign * (entry.choosing_score or 0.0))[keep:]:
            entry.out = f"better {how}"

    def _rank(self, judge: Judge, said: dict[str, Tensor]) -> None:
        for entry in self.entries:
            if entry.name in said:
                entry.choosing_score = judge.score(said[entry.name])

    def _best(self, entries: Sequence[Entry]) -> Entry:
        sign = -1 if self.judge.higher_is_better else 1
        return min(entries, key=lambda entry: (sign * (entry.choosing_score or 0.0), entry.price))

    def _attempt(
        self, entry: Entry, learn: Dataset, score: Dataset | None, share: float = 1.0, *, saved: bool = False
    ) -> Result | None:
        """Fit a contender; one that fails is out, and said."""
        try:
            result = self._workshop.result(entry.contender, learn, score, share, saved=saved)
            if not bool(torch.isfinite(result.said).all()):
                raise TrainingError("its outputs are not finite")
            return result
        except AdapterHubError as error:
            entry.out, entry.failed, self.error = f"failed: {error}", True, error
            self._say(f"{entry.name} {entry.out}")
            return None

    def _tell(self, entry: Entry, results: Sequence[Result], judge: Judge, where: str) -> None:
        value = judge.score(torch.cat([result.said for result in results]))
        spent = sum(result.seconds for result in results)
        known = ", known from before" if all(result.reused for result in results) else f", {spent:.1f} s"
        self._say(f"{entry.name} {where}: {judge.metric} {value:.4g}{known}")

    def _refuse_nobody(self) -> None:
        if not self.running(adapters=True):
            raise self.error or TrainingError("no strategy took part; name one with --strategies, such as lora")
