"""The baseline of texts: words and pairs of words, weighted by TF-IDF, and a linear model on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from adapterhub_lite.comparison.baselines import Problem, Said
from adapterhub_lite.comparison.linear import fitted
from adapterhub_lite.errors import DataError
from adapterhub_lite.names import one_line

SEARCHED = 2_000
"""Rows up to which the penalty is searched for by cross-validation; of many classes it takes minutes otherwise."""
PENALTIES, FIXED_PENALTY = (1.0, 10.0, 100.0), 10.0
"""Inverse penalties C of the logistic regression; of a ridge regression 1 / C."""


def counted_words(problem: Problem) -> Said:
    """TF-IDF of words and pairs of words, and a logistic regression on them; for numbers a ridge regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    learn, score = ([_plain(item) for item in items] for items in problem.texts)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    try:
        x = vectorizer.fit_transform(learn)
    except ValueError as error:  # no word in any text
        raise DataError(f"TF-IDF found no words to count: {one_line(error)}") from None
    return fitted(problem, x, vectorizer.transform(score), _of_words(problem))


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
