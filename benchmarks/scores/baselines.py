"""What adapting is compared with, each in a process of its own: `python -m benchmarks.scores.baselines NAME TRAIN TEST`.

`tfidf` is TF-IDF of words and word pairs with logistic regression (scikit-learn); `dtw` is the nearest neighbour by dynamic
time warping over the whole window, all channels warped together (Shokoohi-Yekta et al. 2017, DTW_D); `scratch` is MobileNetV2
from random weights in plain PyTorch, its batch normalisation as transformers makes it. One JSON object is printed.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np

from adapterhub_lite import load_data


def tfidf(train: Path, test: Path) -> dict[str, float]:
    """Macro-F1 and accuracy on a text file with columns text and unfair."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.pipeline import make_pipeline

    (x, y), (x_test, y_test) = _columns(train), _columns(test)
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
        LogisticRegression(C=10, class_weight="balanced", max_iter=2000),
    )
    predicted = model.fit(x, y).predict(x_test)
    return {
        "macro_f1": float(f1_score(y_test, predicted, average="macro")),
        "accuracy": float(np.mean(predicted == np.asarray(y_test))),
    }


def dtw(train: Path, test: Path) -> dict[str, float]:
    """Accuracy of one nearest neighbour; the first of equally near ones."""
    known = load_data(train, "series-classification")
    unknown = load_data(test, "series-classification", labels=known.labels)
    assert known.targets is not None
    assert unknown.targets is not None
    by_length: dict[int, list[int]] = {}
    for number, series in enumerate(known.inputs):
        by_length.setdefault(len(series), []).append(number)
    groups = [(numbers, np.stack([known.inputs[number] for number in numbers])) for numbers in by_length.values()]
    hits, near = 0, np.empty(len(known))
    for series, target in zip(unknown.inputs, unknown.targets, strict=True):
        for numbers, others in groups:
            near[numbers] = distances(series, others)
        hits += known.targets[int(np.argmin(near))] == target
    return {"accuracy": hits / len(unknown)}


def distances(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared dependent DTW distances of a series (n, channels) to others (count, m, channels), cell by anti-diagonal."""
    one, turned = one.astype(np.float64), others[:, ::-1].astype(np.float64)  # turned round, a diagonal is a slice
    (count, m, _), n = others.shape, len(one)
    before = np.full((count, n + 1), np.inf)  # of the diagonal before the last, by row
    last = np.full((count, n + 1), np.inf)
    before[:, 0] = 0.0
    for diagonal in range(n + m - 1):
        low, high = max(0, diagonal - m + 1), min(n, diagonal + 1)
        first = m - 1 - diagonal
        gap = one[low:high] - turned[:, first + low : first + high]  # (count, rows, channels)
        now = np.full((count, n + 1), np.inf)
        now[:, low + 1 : high + 1] = np.einsum("krc,krc->kr", gap, gap) + np.minimum(
            np.minimum(last[:, low:high], last[:, low + 1 : high + 1]), before[:, low:high]
        )
        before, last = last, now
    return last[:, n]


def scratch(train: str, test: str, folder: str, steps: str = "124") -> dict[str, float]:
    """Macro-F1 and accuracy of the architecture in `folder` after AdamW at 1e-3, batches of 32, with a cosine."""
    import torch
    from sklearn.metrics import f1_score
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

    known = load_data(train, "image-classification")
    unknown = load_data(test, "image-classification", labels=known.labels)
    assert known.targets is not None
    assert unknown.targets is not None
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(folder, id2label=dict(enumerate(known.labels)))
    model = AutoModelForImageClassification.from_config(config).train()
    size = 32
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(steps))
    for step in range(int(steps)):
        if step % (len(known) // size) == 0:
            order = torch.randperm(len(known)).tolist()
        chosen = order[step % (len(known) // size) * size :][:size]
        pixels = processor([known.inputs[i] for i in chosen], return_tensors="pt")["pixel_values"]
        loss = torch.nn.functional.cross_entropy(
            model(pixel_values=pixels).logits, torch.tensor([known.targets[i] for i in chosen])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    predicted: list[int] = []
    with torch.no_grad():
        for start in range(0, len(unknown), 64):
            pictures = [unknown.inputs[i] for i in range(start, min(start + 64, len(unknown)))]
            pixels = processor(pictures, return_tensors="pt")["pixel_values"]
            predicted += model(pixel_values=pixels).logits.argmax(dim=-1).tolist()
    return {
        "macro_f1": float(f1_score(unknown.targets, predicted, average="macro")),
        "accuracy": float(np.mean(np.asarray(predicted) == np.asarray(unknown.targets))),
    }


def _columns(path: Path) -> tuple[list[str], list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["unfair"] for row in rows]


if __name__ == "__main__":
    name, *given = sys.argv[1:]
    metrics = scratch(*given) if name == "scratch" else {"tfidf": tfidf, "dtw": dtw}[name](*map(Path, given))
    print(json.dumps({"metrics": metrics}))
