"""Whether the rows to score on, or those of the deployment, are like those that are learnt from."""

from __future__ import annotations

import numpy as np

from adapterhub_lite.auditing.finding import Finding, fine, unknown
from adapterhub_lite.auditing.material import Material
from adapterhub_lite.auditing.needs import needed

NAME, OF_LABELS = "shift", "shift of labels"
CLEAR, SEEN = 0.75, 0.65
"""Area under the curve of a probe that tells the two sides apart: an alarm, and worth a note; 0.5 is chance."""
FAR, MOVED = 0.3, 0.1
"""The share of rows whose class would have to change (total variation): an alarm, and worth a note."""
AT_MOST, FEWEST, FOLDS = 3_000, 50, 3


def shift(material: Material) -> list[Finding]:
    """How well a probe tells the two sides apart (Lopez-Paz and Oquab 2017, arXiv:1610.06545), and how classes moved.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    held_out, learnt = material.held_out, material.learnt
    if held_out is None:
        return []
    told = _labels(material)
    features, others = material.data.traits[material.data.sampled], held_out.traits[held_out.sampled]
    by = "length, case and size"
    if learnt is not None and learnt.held_out is not None:
        features, others, by = learnt.features, learnt.held_out, "features"
    n = min(len(features), len(others), AT_MOST)
    if n < FEWEST or np.isnan(features).any() or np.isnan(others).any():
        return [*told, unknown(NAME, f"too few rows to say: {min(len(features), len(others)):,}")]
    linear, metrics = needed("sklearn.linear_model", "scikit-learn"), needed("sklearn.metrics", "scikit-learn")
    folds, scaling = needed("sklearn.model_selection", "scikit-learn"), needed("sklearn.preprocessing", "scikit-learn")
    random = np.random.default_rng(material.seed)
    x = np.concatenate([features[random.permutation(len(features))[:n]], others[random.permutation(len(others))[:n]]])
    y = np.repeat([0, 1], n)
    split = folds.StratifiedKFold(FOLDS, shuffle=True, random_state=material.seed)
    probe = linear.RidgeClassifier(alpha=float(x.shape[1]))
    x = scaling.StandardScaler().fit_transform(x)
    area = float(metrics.roc_auc_score(y, folds.cross_val_predict(probe, x, y, cv=split, method="decision_function")))
    says = f"a probe on {by} tells the data from the rows to score on with an area under the curve of {area:.2f} (0.5: not)"
    facts = {"area": area, "by": by}
    if area < SEEN:
        return [*told, fine(NAME, says, **facts)]
    advice = "the score is of rows unlike those that were learnt from: learn from rows like those that will come"
    return [*told, Finding(NAME, "alarm" if area >= CLEAR else "note", says, advice, facts=facts)]


def _labels(material: Material) -> list[Finding]:
    own, held_out = material.data.labels, material.held_out
    others = None if held_out is None else held_out.labels
    if own is None or others is None or min(len(own), len(others)) < FEWEST:
        return []
    names = material.data.dataset.labels
    shares = [np.bincount(labels, minlength=len(names)) / len(labels) for labels in (own, others)]
    apart = shares[1] - shares[0]
    moved, most = float(np.abs(apart).sum() / 2), int(np.abs(apart).argmax())
    says = (
        f"{moved:.0%} of rows to score on are of other classes than in the data; most {names[most]}, {apart[most]:+.1%}"
    )
    # By chance alone it is about so far: the mean of |differences| of shares that are drawn from one.
    chance = float(np.sqrt(2 / np.pi * shares[0] * (1 - shares[0]) * (1 / len(own) + 1 / len(others))).sum() / 2)
    if moved < MOVED or moved < 2 * chance:
        return [fine(OF_LABELS, says)]
    advice = (
        "calibration and thresholds are of the classes that were learnt: choose them on rows like those that will come"
    )
    return [Finding(OF_LABELS, "alarm" if moved >= FAR else "note", says, advice)]
