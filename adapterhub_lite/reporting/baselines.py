"""What an adapter has to beat: the commonest answer, counted words, the bare base; by a comparison where one was made."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from adapterhub_lite.comparison.baselines import Fit, Problem, commonest, missing_package
from adapterhub_lite.evaluation.unknown import with_unknown
from adapterhub_lite.progress import Silent
from adapterhub_lite.reporting.known import Known
from adapterhub_lite.scoring.decision import PLAIN
from adapterhub_lite.tasks.head import HeadTask
from adapterhub_lite.tasks.task import Encoded, Example, encode
from adapterhub_lite.training.run.journal import scores_logged

MOST_CELLS = 15_000
"""Rows times classes up to which counting words takes a part of a second."""
A_CELL = 2e-5
"""Seconds that one of them costs, where there are more."""
MOST_ROWS, MOST_LETTERS = 200_000, 5_000_000
"""Rows that a baseline is fitted to, and letters of their texts whose words are counted."""
LEARN_VALUES = 2_000
"""Rows of numbers that are prepared once more."""


def baselines(known: Known) -> list[dict[str, Any]]:
    """The scores of what costs little, in the adapter's metric, with where they come from; the cheapest first."""
    if known.scored_anew:
        known.left_out.append("nothing stands beside the scores: what was measured in training was so on other rows")
        return []
    compared = known.adapter.training.get("comparison")
    if isinstance(compared, Mapping):
        return _of_comparison(compared)
    scores: list[dict[str, Any]] = []
    if known.learnt_from is not None and known.held_out is not None and isinstance(known.task, HeadTask):
        if known.kind == "tokens":
            known.left_out.append("baselines of words with a label each are not computed here")
        else:
            scores += _fitted(known, known.task)
    probe = _of_probe(known)
    return [*scores, *([probe] if probe is not None else [])]


def _of_comparison(compared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The other contenders that were scored on the same held-out rows."""
    others = [row for row in compared.get("contenders", ()) if row.get("score") is not None]
    return [
        {"name": row["name"], "score": row["score"], "interval": row.get("interval"), "from": "comparison"}
        for row in others
        if row["name"] != compared.get("best_adapter")
    ]


def _of_probe(known: Known) -> dict[str, Any] | None:
    """The linear probe that a head started from, scored before the first step: a model of the bare base."""
    for step, metrics in scores_logged(known.log):
        if step == 0 and known.task.metric in metrics:
            score = metrics[known.task.metric]
            return {"name": "linear probe on the bare base", "score": score, "interval": None, "from": "before step 1"}
    return None


def _fitted(known: Known, task: HeadTask) -> list[dict[str, Any]]:
    assert known.learnt_from is not None
    assert known.held_out is not None
    if len(known.learnt_from) + len(known.held_out) > MOST_ROWS:
        known.left_out.append(
            f"baselines are not fitted to more than {MOST_ROWS:,} rows; `adapterhub-lite compare` does"
        )
        return []
    learn, score = (_light(known, data) for data in (known.learnt_from, known.held_out))
    if learn is None or score is None:
        known.left_out.append(
            f"baselines are not fitted to more than {LEARN_VALUES:,} rows with numbers; `adapterhub-lite compare` does"
        )
        return []
    texts = known.learnt_from.inputs, known.held_out.inputs
    problem = Problem(task, known.adapter.base, learn, score, texts, 0, Silent())
    name = "always the mean" if known.kind == "value" else "always the commonest"
    made = [_scored(known, problem, name, commonest)]
    if task.modality != "text":
        return made
    missing, cells = missing_package(), len(learn.examples) * max(2, len(task.labels))
    if missing is not None:
        known.left_out.append(f"TF-IDF {missing}")
    elif _too_long(texts) or (cells > MOST_CELLS and cells * A_CELL > known.seconds):
        known.left_out.append(
            f"TF-IDF on {len(learn.examples):,} rows of such length would take longer than the report may; "
            "`adapterhub-lite compare` measures it"
        )
    else:
        from adapterhub_lite.comparison.counted_words import counted_words

        made.append(_scored(known, problem, "TF-IDF of words, linear", counted_words))
    return made


def _too_long(texts: Iterable[Sequence[Any]]) -> bool:
    """Whether all texts together have more letters than are counted; no more of them are read than that takes."""
    letters = 0
    for item in chain.from_iterable(texts):
        letters += len(item) if isinstance(item, str) else sum(map(len, item))
        if letters > MOST_LETTERS:
            return True
    return False


def _light(known: Known, data: Any) -> Encoded | None:
    """Examples with their targets alone, which is all that a baseline reads of them."""
    if known.kind == "value":
        return encode(known.task, data, known.adapter.base) if len(data) <= LEARN_VALUES else None
    return Encoded([Example(None, target, 1, 1.0) for target in data.targets])


def _scored(known: Known, problem: Problem, name: str, fit: Fit) -> dict[str, Any]:
    data, task = known.held_out, copy.copy(known.task)
    assert data is not None
    assert isinstance(task, HeadTask)
    task.decision = PLAIN  # what was chosen for the outputs of the adapter is not for others
    said, _ = fit(problem)
    targets = task.targets(problem.score.examples)
    judge, logits, targets = with_unknown(task, data, problem.score, said, targets)
    metrics: Mapping[str, float] = judge.metrics(logits, targets, 0.0)
    interval = judge.intervals(logits, targets, None, known.groups).get(task.metric)
    return {"name": name, "score": metrics[task.metric], "interval": interval, "from": "fitted to the same rows"}
