"""Models without a base, which an adapter has to beat: the commonest answer, words counted, raw values."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from adapterhub_lite.base.loading import Base
from adapterhub_lite.errors import DataError, TrainingError
from adapterhub_lite.names import one_line
from adapterhub_lite.progress import Progress
from adapterhub_lite.tasks.head import HeadTask
from adapterhub_lite.tasks.task import Encoded

SEARCHED = 2_000
"""Rows up to which the penalty of TF-IDF is searched for by cross-validation; it takes minutes of many classes otherwise."""
PENALTIES, FIXED_PENALTY = (1.0, 10.0, 100.0), 10.0
"""Inverse penalties C of the logistic regression; of a ridge regression 1 / C."""
SIDE, STEPS = 16, 32
"""What images and series are made smaller to: pixels a side, steps in time."""
AT_ONCE = 32
SURE = 1e-6
"""The least probability that is told apart from none."""


@dataclass(frozen=True)
class Problem:
    """What a baseline learns from and is scored on."""

    task: HeadTask
    base: Base
    """For its tokenizer or processor: its weights are not used."""
    learn: Encoded
    score: Encoded
    texts: tuple[Sequence[Any], Sequence[Any]]
    """The inputs of both as they were read."""
    seed: int
    progress: Progress

    @property
    def targets(self) -> Tensor:
        """What is to be learnt, as the task makes it."""
        return self.task.targets(self.learn.examples)

    @property
    def balanced(self) -> str | None:
        """How scikit-learn is told to weigh the classes."""
        return "balanced" if self.task.preprocessing.options.get("class_weights") == "balanced" else None


Said = tuple[Tensor, int]
"""Outputs for the rows that are scored, as the task's head gives them, and how many weights were fitted."""
Fit = Callable[[Problem], Said]


def commonest(problem: Problem) -> Said:
    """How often each class comes, or the mean of the numbers, whatever the input is."""
    targets, kind = problem.targets, problem.task.target_kind
    if kind == "classes":
        counts = torch.bincount(targets, minlength=problem.task.output_size).double()
        row = (counts / counts.sum()).clamp(min=SURE).log()
    elif kind == "labels":
        row = torch.logit(targets.double().mean(dim=0), eps=SURE)
    else:
        row = targets.double().mean(dim=0)
    rows = sum(example.rows for example in problem.score.examples)
    return row.float().expand(rows, -1).clone(), row.numel()


def counted_words(problem: Problem) -> Said:
    """TF-IDF of words and pairs of words, and a logistic regression on them; for numbers a ridge regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    learn, score = ([_plain(item) for item in items] for items in problem.texts)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    try:
        x = vectorizer.fit_transform(learn)
    except ValueError as error:  # no word in any text
        raise DataError(f"TF-IDF found no words to count: {one_line(error)}") from None
    return _fitted(problem, x, vectorizer.transform(score), _of_words(problem))


def raw_values(problem: Problem) -> Said:
    """Ridge regression on the inputs themselves, as the base's processor prepares them, made smaller."""
    from sklearn.linear_model import RidgeClassifierCV, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    alphas = np.logspace(-2, 5, 8)
    values = problem.task.target_kind == "values"
    ridge = RidgeCV(alphas) if values else RidgeClassifierCV(alphas, class_weight=problem.balanced)
    x, new = _small(problem, problem.learn), _small(problem, problem.score)
    return _fitted(problem, x, new, make_pipeline(StandardScaler(), ridge))


def missing_package() -> str | None:
    """Why baselines other than the commonest answer cannot be fitted here; None where they can."""
    if find_spec("sklearn") is not None:
        return None
    return "needs scikit-learn; pip install 'adapterhub-lite[sklearn]'"


def _plain(item: Any) -> str:
    """A text, or both texts of a pair."""
    return item if isinstance(item, str) else " ".join(item)


def _of_words(problem: Problem) -> Any:
    """The model on top of TF-IDF, its penalty searched for in three folds where there are few rows."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, StratifiedKFold
    from sklearn.multiclass import OneVsRestClassifier

    kind, targets = problem.task.target_kind, problem.targets
    logistic = LogisticRegression(C=FIXED_PENALTY, max_iter=1000, class_weight=problem.balanced)
    if kind == "labels":
        return OneVsRestClassifier(logistic)
    model = logistic if kind == "classes" else Ridge(1 / FIXED_PENALTY)
    groups = problem.learn.groups
    folds: Any = KFold(3, shuffle=True, random_state=problem.seed)
    few = len(targets) < 3 * 3
    if groups is not None:
        folds, few = GroupKFold(3), len(set(groups)) < 3
    elif kind == "classes":
        folds = StratifiedKFold(3, shuffle=True, random_state=problem.seed)
        counts = torch.bincount(targets)
        few = int(counts[counts > 0].min()) < 3
    if few or len(targets) > SEARCHED:
        return model
    grid = {"C": PENALTIES} if kind == "classes" else {"alpha": [1 / c for c in PENALTIES]}
    splits = list(folds.split(np.zeros(len(targets)), targets.flatten().numpy(), groups))
    return GridSearchCV(model, grid, cv=splits)


def _fitted(problem: Problem, x: Any, new: Any, model: Any) -> Said:
    """Fit a model of scikit-learn, and turn what it says into outputs of the task's head."""
    targets, kind = problem.targets.numpy(), problem.task.target_kind
    if kind == "classes" and len(set(targets.tolist())) < 2:
        raise DataError("the rows to learn from are all of one class, and a classifier needs two")
    try:
        with warnings.catch_warnings():  # of labels that no row has, and of fits that are close enough
            warnings.simplefilter("ignore")
            model.fit(x, targets.ravel() if kind != "labels" else targets.astype(np.int64))
    except ValueError as error:
        raise TrainingError(f"scikit-learn cannot fit it: {one_line(error)}") from error
    weights = sum(_numbers(part) for part in _parts(model))
    if kind == "values":
        return torch.tensor(model.predict(new), dtype=torch.float32).reshape(-1, 1), weights
    if hasattr(model, "predict_proba"):
        p = torch.tensor(model.predict_proba(new), dtype=torch.float64).clamp(SURE, 1 - SURE)
        said = p.logit() if kind == "labels" else p.log()
    else:
        said = torch.tensor(model.decision_function(new), dtype=torch.float64)
        if said.dim() == 1:  # of two classes one number, above 0 for the second
            said = said[:, None] if kind == "labels" else torch.stack([-said, said], dim=1)
    if kind == "classes":  # a class that no row to learn from has is never said
        outputs = torch.full((len(said), problem.task.output_size), float(said.min()) - 10, dtype=torch.float64)
        outputs[:, torch.tensor(model.classes_)] = said
        said = outputs
    return said.float(), weights


def _parts(model: Any) -> list[Any]:
    """The fitted linear models within a model of scikit-learn."""
    model = getattr(model, "best_estimator_", model)
    if hasattr(model, "steps"):
        model = model.steps[-1][1]
    return list(getattr(model, "estimators_", [model]))


def _numbers(linear: Any) -> int:
    return int(np.size(getattr(linear, "coef_", ())) + np.size(getattr(linear, "intercept_", ())))


def _small(problem: Problem, data: Encoded) -> np.ndarray[Any, Any]:
    """The inputs as rows of few numbers: pixels averaged in squares; steps averaged in time, and each channel's range."""
    parts = []
    with problem.progress.bar("reading raw values", len(data.examples), "examples") as bar:
        for start in range(0, len(data.examples), AT_ONCE):
            examples = data.examples[start : start + AT_ONCE]
            inputs = problem.task.inputs(examples, problem.base)
            values = next(value for value in inputs.values() if value.is_floating_point()).float()
            parts.append(_averaged(values) if problem.task.modality == "image" else _through_time(values))
            bar.advance(len(examples))
    return torch.cat(parts).numpy()


def _averaged(pixels: Tensor) -> Tensor:
    """(batch, channels, height, width) as (batch, channels * SIDE * SIDE)."""
    side = min(SIDE, *pixels.shape[-2:])
    return functional.adaptive_avg_pool2d(pixels, side).flatten(1)


def _through_time(values: Tensor) -> Tensor:
    """(batch, steps, channels) as (batch, features): averages along time, and mean, spread, least, largest and last value."""
    by_channel = values.transpose(1, 2)  # (batch, channels, steps)
    averaged = functional.adaptive_avg_pool1d(by_channel, min(STEPS, by_channel.shape[-1]))
    spread = by_channel.std(dim=-1, correction=0)
    ends = [by_channel.mean(dim=-1), spread, by_channel.amin(dim=-1), by_channel.amax(dim=-1), by_channel[..., -1]]
    return torch.cat([averaged.flatten(1), *ends], dim=1)
