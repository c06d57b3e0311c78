"""Models without a base give what scikit-learn gives when it is asked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from adapterhub_lite.comparison.baselines import Problem, commonest
from adapterhub_lite.comparison.counted_words import counted_words
from adapterhub_lite.comparison.raw_values import raw_values
from adapterhub_lite.errors import DataError
from adapterhub_lite.progress import Silent
from adapterhub_lite.tasks.task import encode
from tests.conftest import WORDS

KINDS = {"good": WORDS[:16], "bad": WORDS[8:24], "bill": WORDS[16:32]}


def texts(n, seed):
    """Texts of three kinds that share some words, and their kinds."""
    random = np.random.default_rng(seed)
    kinds = [list(KINDS)[number % 3] for number in range(n)]
    return [" ".join(random.choice(KINDS[kind], 6)) for kind in kinds], kinds


def problem(engine, base, learn, score, task, columns=None):
    """A problem on two lists of rows."""
    data = engine.load_data(learn, task, columns=columns)
    other = engine.load_data(score, task, labels=data.labels or None, columns=columns)
    made = engine.task_for(base, data)
    return Problem(
        made, base, encode(made, data, base), encode(made, other, base), (data.inputs, other.inputs), 0, Silent()
    )  # fmt: skip


def rows_of(n, seed):
    said, kinds = texts(n, seed)
    return [{"text": text, "label": kind} for text, kind in zip(said, kinds, strict=True)]


@pytest.fixture
def of_texts(engine, base):
    return problem(engine, base("tiny-bert"), rows_of(60, 1), rows_of(30, 2), "text-classification")


def test_the_commonest_answer_is_how_often_each_class_comes(engine, base):
    rows = [{"text": "good card", "label": "x"}] * 6 + [{"text": "bad card", "label": "y"}] * 2
    said, weights = commonest(problem(engine, base("tiny-bert"), rows, rows[:3], "text-classification"))
    assert torch.softmax(said, dim=1).numpy() == pytest.approx(np.array([[0.75, 0.25]] * 3))
    assert weights == 2


def test_the_mean_is_that_of_the_rows_learnt_from(engine, base):
    rows = [{"text": "good", "target": value} for value in (1.0, 2.0, 6.0)]
    said, _ = commonest(problem(engine, base("tiny-bert"), rows, rows[:2], "text-regression"))
    assert said.tolist() == [[pytest.approx(0.0, abs=1e-6)]] * 2  # the head predicts standard units


def test_tf_idf_is_scikit_learns(of_texts):
    said, weights = counted_words(of_texts)
    learn, score = map(list, of_texts.texts)
    y = of_texts.targets.numpy()
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit(learn)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(LogisticRegression(max_iter=1000), {"C": [1, 10, 100]}, cv=folds).fit(
        words.transform(learn), y
    )
    by_hand = search.predict_proba(words.transform(score))
    assert torch.softmax(said, dim=1).numpy() == pytest.approx(by_hand, abs=1e-5)
    assert weights == search.best_estimator_.coef_.size + 3


def test_classes_that_no_row_learnt_from_has_are_never_said(engine, base):
    rows = rows_of(60, 1)
    whole = problem(engine, base("tiny-bert"), rows, rows[:9], "text-classification")
    two = [row for row in range(60) if whole.learn.examples[row].target != 1]
    part = Problem(
        whole.task, whole.base, type(whole.learn)([whole.learn.examples[row] for row in two]), whole.score,
        ([whole.texts[0][row] for row in two], whole.texts[1]), 0, Silent(),
    )  # fmt: skip
    said, _ = counted_words(part)
    assert said.shape == (9, 3)
    assert set(said.argmax(dim=1).tolist()) <= {0, 2}
    assert torch.isfinite(said).all()


def test_one_class_is_refused_with_what_it_needs(engine, base):
    rows = rows_of(12, 1)
    whole = problem(engine, base("tiny-bert"), rows, rows, "text-classification")
    ones = [row for row in range(12) if whole.learn.examples[row].target == 0]
    part = Problem(
        whole.task, whole.base, type(whole.learn)([whole.learn.examples[row] for row in ones]), whole.score,
        ([whole.texts[0][row] for row in ones], whole.texts[1]), 0, Silent(),
    )  # fmt: skip
    with pytest.raises(DataError, match="all of one class"):
        counted_words(part)


def test_several_labels_are_a_regression_each(engine, base):
    random = np.random.default_rng(3)
    rows = []
    for _ in range(60):
        label = [name for name in KINDS if random.random() < 0.5]
        words = [word for name in label for word in random.choice(KINDS[name], 3)]
        rows.append({"text": " ".join(["my", *words]), "labels": label})
    part = problem(engine, base("tiny-bert"), rows, rows[:20], "text-classification", {"labels": "labels"})
    said, _ = counted_words(part)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    x = words.fit_transform(list(part.texts[0]))
    by_hand = OneVsRestClassifier(LogisticRegression(C=10, max_iter=1000)).fit(x, part.targets.numpy().astype(int))
    assert torch.sigmoid(said).numpy() == pytest.approx(by_hand.predict_proba(x[:20]), abs=1e-5)


def test_numbers_of_texts_are_a_ridge_regression(engine, base):
    said, kinds = texts(60, 4)
    value = {"good": 1.0, "bad": -1.0, "bill": 5.0}
    rows = [{"text": text, "target": value[kind]} for text, kind in zip(said, kinds, strict=True)]
    part = problem(engine, base("tiny-bert"), rows, rows[:20], "text-regression")
    outputs, _ = counted_words(part)
    assert float((outputs[:, 0] - part.task.targets(part.score.examples)[:, 0]).abs().mean()) < 0.5


def test_raw_pixels_are_averaged_and_given_to_ridge(engine, base):
    random = np.random.default_rng(5)
    images = [random.integers(0, 80, (32, 32, 3), dtype=np.uint8) for _ in range(24)]
    for number in range(0, 24, 2):
        images[number][:16] += 120
    rows = [{"image": _png(image), "label": "yn"[number % 2]} for number, image in enumerate(images)]
    part = problem(engine, base("tiny-vit"), rows[:16], rows[16:], "image-classification")
    said, weights = raw_values(part)
    assert said.argmax(dim=1).tolist() == [0 if row["label"] == "n" else 1 for row in rows[16:]]
    pixels = [part.task.inputs([example], part.base)["pixel_values"][0] for example in part.learn.examples]
    small = torch.stack(pixels).reshape(16, 3, 16, 2, 16, 2).mean(dim=(3, 5)).flatten(1).numpy()
    by_hand = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-2, 5, 8))).fit(small, part.targets.numpy())
    again = Problem(part.task, part.base, part.learn, part.learn, part.texts, 0, Silent())
    assert raw_values(again)[0][:, 1].numpy() == pytest.approx(by_hand.decision_function(small), abs=1e-3)
    assert weights == 3 * 16 * 16 + 1


def _png(image):
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()
