"""Any number of labels a row, against scikit-learn and closed forms."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.tasks.task import Encoded, Example, Preprocessing
from adapterhub_text.classification import TextClassification

NAMES = ("a", "b", "c", "d")


def task(**options: Any) -> TextClassification:
    return TextClassification(NAMES, Preprocessing(max_length=8, pooling="mean", form="several", options=options))


@pytest.fixture(params=range(3))
def said(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(request.param)
    targets = (random.random((80, 4)) < [0.5, 0.2, 0.05, 0.0]).astype(np.float32)
    logits = random.normal(size=(80, 4)) * 2 + 2 * targets - [0, 0, 1, 4]
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(targets)


def test_scores_are_those_of_scikit_learn(said: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, targets = said
    losses = task().losses(logits, targets)
    true, predicted, p = targets.numpy() > 0.5, logits.numpy() > 0, torch.sigmoid(logits).double().numpy()
    by_label = [log_loss(true[:, i], p[:, i], labels=[False, True]) for i in range(4)]
    assert losses.mean(dim=0).tolist() == pytest.approx(by_label, rel=1e-5)
    scores = task().metrics(logits, targets, float(losses.mean()))
    occurring = [i for i in range(4) if true[:, i].any() or predicted[:, i].any()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert scores["macro_f1"] == pytest.approx(
            f1_score(true[:, occurring], predicted[:, occurring], average="macro")
        )
        assert scores["micro_f1"] == pytest.approx(f1_score(true, predicted, average="micro"))
    assert scores["exact_match"] == pytest.approx(accuracy_score(true, predicted))
    assert scores["loss"] == pytest.approx(np.mean(by_label), rel=1e-5)
    for name, (low, high) in task().intervals(logits, targets).items():
        assert low <= scores[name] <= high


def test_balanced_weights_are_those_of_pytorch_pos_weight() -> None:
    """(rows without it) / (rows with it), as in BCEWithLogitsLoss(pos_weight)."""
    rows = [(0,), (0, 1), (), (0, 2), (0,), ()]
    several = task(class_weights="balanced")
    encoded = several.balance(Encoded([Example([1], row, 1, several.weight()) for row in rows]))
    targets = several.targets(encoded.examples)
    positive = torch.tensor([2 / 4, 5 / 1, 5 / 1, 1.0])
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    wanted = torch.nn.BCEWithLogitsLoss(pos_weight=positive, reduction="none")(logits, targets)
    weights = several.weights(targets)
    assert weights is not None
    torch.testing.assert_close(several.losses(logits, targets) * weights, wanted)
    assert [example.weight for example in encoded.examples] == weights.sum(dim=1).tolist()


def test_what_is_predicted() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.1, -5.0], [-1.0, -1.0, -1.0, -1.0]])
    first, second = task().predictions(logits, Encoded([]))
    assert (first.labels, second.labels) == (("a", "c"), ())
    assert first.probabilities["a"] == pytest.approx(1 / (1 + np.exp(-2)))
    assert first.columns()["prediction"] == ["a", "c"]


def test_the_gradient_of_an_empty_row_counts(engine: Any) -> None:
    """A row without labels is a row of zeros, not a row that is left out."""
    data = Dataset("text-classification", ["x"], [()], NAMES, {}, "<test>", "", None, form="several")
    example = Example([1], data.targets[0], 1, task().weight())  # type: ignore[index]
    assert task().targets([example]).tolist() == [[0.0] * 4]
    assert example.weight == 4.0


def test_images_have_several_labels_too(engine: Any, tmp_path: Any) -> None:
    """Bright on the left, bright at the top: both, one or neither, and a probe tells them apart."""
    from adapterhub_lite import load_data
    from adapterhub_lite.testing.models import tiny_base

    random = np.random.default_rng(0)
    left, top = random.integers(0, 2, 32), random.integers(0, 2, 32)
    pixels = random.integers(0, 60, (32, 16, 16, 3), dtype=np.uint8)
    pixels[:, :, :8] += (90 * left).astype(np.uint8)[:, None, None, None]
    pixels[:, :8] += (90 * top).astype(np.uint8)[:, None, None, None]
    np.savez(tmp_path / "x.npz", images=pixels, left=left, top=top)
    data = load_data(tmp_path / "x.npz", "image-classification", columns={"labels": "left,top"})
    adapter = engine.train(tiny_base("vision"), data, strategy="linear_probe", settings={"penalty": 1e-4})
    assert adapter.evaluate(data).metrics["exact_match"] == 1.0
    adapter.detach()
