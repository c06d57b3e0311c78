"""Label smoothing against torch's own, for one label and several, and for a task with a loss of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from adapterhub_lite.data.dataset import SEVERAL
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.tasks.task import Preprocessing
from adapterhub_lite.tasks.text_classification import TextClassification
from adapterhub_lite.training.config import TrainConfig

LOGITS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)) * 3
SHARE = 0.3


def smoothed(kind: type[TextClassification] = TextClassification, form: str | None = None) -> TextClassification:
    return kind("abcd", Preprocessing(form=form, options={"label_smoothing": SHARE}))


def test_one_label_is_smoothed_as_torch_does() -> None:
    targets = torch.tensor([0, 3, 1, 1, 2])
    wanted = functional.cross_entropy(LOGITS, targets, reduction="none", label_smoothing=SHARE)
    torch.testing.assert_close(smoothed().objective(LOGITS, targets), wanted)
    torch.testing.assert_close(
        smoothed().losses(LOGITS, targets), functional.cross_entropy(LOGITS, targets, reduction="none")
    )


def test_several_labels_are_each_smoothed_between_yes_and_no() -> None:
    targets = (LOGITS.roll(1, 0) > 0).float()
    wanted = functional.binary_cross_entropy_with_logits(
        LOGITS, targets * (1 - SHARE) + SHARE / 2, reduction="none"
    )  # fmt: skip
    torch.testing.assert_close(smoothed(form=SEVERAL).objective(LOGITS, targets), wanted)


class Distance(TextClassification):
    """How far the expected class is from the target."""

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Absolute distance."""
        classes = torch.arange(logits.shape[1]).float()
        return ((logits.softmax(dim=1) * classes).sum(dim=1) - targets).abs()


def test_a_loss_of_its_own_is_mixed_over_all_classes() -> None:
    targets = torch.tensor([0, 3, 1, 1, 2])
    task = smoothed(Distance)
    each = torch.stack([task.losses(LOGITS, torch.full((5,), k)) for k in range(4)])
    wanted = (1 - SHARE) * task.losses(LOGITS, targets) + SHARE * each.mean(dim=0)
    torch.testing.assert_close(task.objective(LOGITS, targets), wanted)


def test_training_uses_it_and_scores_do_not(base: Any, bank: Any, put: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = put(base("tiny-bert"), replace(bank(3, 6), options={"label_smoothing": SHARE}), "lora")
    for module in ours.attachment.base.model.modules():
        if isinstance(module, torch.nn.Dropout):
            monkeypatch.setattr(module, "p", 0.0)
    batch = ours.batch(list(range(len(ours.encoded.examples))))
    with torch.no_grad():
        logits, targets = ours.attachment.logits(batch)
    wanted = functional.cross_entropy(logits, targets, label_smoothing=SHARE)
    report = ours.fit(steps=1, batch_size=len(ours.encoded.examples), learning_rate=1e-9)
    assert report.losses == pytest.approx([float(wanted)], rel=1e-5)


def test_a_probe_is_not_smoothed_in_silence(engine: Any, base: Any, bank: Any) -> None:
    with pytest.raises(NotSupportedError, match="linear_probe is solved without label_smoothing"):
        engine.train(base("tiny-bert"), bank(3, 6), strategy="linear_probe", config=TrainConfig(),
                     task_options={"label_smoothing": SHARE})  # fmt: skip
