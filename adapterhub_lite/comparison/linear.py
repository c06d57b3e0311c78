"""Fitting a linear model of scikit-learn, and what it says as outputs of a task's head."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from adapterhub_lite.comparison.baselines import SURE, Problem, Said
from adapterhub_lite.errors import DataError, TrainingError
from adapterhub_lite.names import one_line


def fitted(problem: Problem, x: Any, new: Any, model: Any) -> Said:
    """Fit a model to rows x, and let it speak about the new ones.

    Raises:
        DataError: rows of one class.
        TrainingError: scikit-learn refuses to; says why.
    """
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
