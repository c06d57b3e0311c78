"""Adapters as scikit-learn's estimators: its own checks, its searches, and what is in a dump."""

from __future__ import annotations

import pickle
import shutil

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import validate_data

import adapterhub_lite as ah
from adapterhub_lite import estimators
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.estimators import Classifier, Regressor, forget_base
from tests.conftest import WORDS

TEXTS = [f"{kind} money {number}" for number in range(12) for kind in ("good", "bad")]
LABELS = ["yes", "no"] * 12
NUMBERS = [1.5, -2.0] * 12
FAST = {"epochs": 30, "learning_rate": 0.01}


@pytest.fixture
def encoder(references):
    return references("tiny-bert")


def in_words(rows):
    """Each number as one of 20 words that the tiny tokenizer knows."""
    return [" ".join(WORDS[int(10 + 3 * np.clip(value, -3, 3))] for value in row) for row in rows]


class OfNumbers(Classifier):
    """A classifier of rows of numbers, which it writes as text, so that scikit-learn's checks have something to give it."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        tags.classifier_tags.poor_score = True
        return tags

    def fit(self, X, y):
        X, y = validate_data(self, X, y)
        return super().fit(in_words(X), y)

    def _rows(self, rows):
        if isinstance(rows, list) and rows and isinstance(rows[0], str):
            return rows
        return in_words(validate_data(self, rows, reset=False))

    def predict_proba(self, X):
        self.adapter_  # noqa: B018  (says that nothing is fitted before it looks at the rows)
        return super().predict_proba(X)


def test_checks_of_scikit_learn(encoder):
    model = OfNumbers(base=encoder, settings={"penalty": 1.0}, dtype="float32")
    results = check_estimator(model, on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert failed == {}
    assert sum(result["status"] == "passed" for result in results) > 40


@pytest.mark.parametrize("wrap", [list, np.array, pd.Series, lambda texts: pd.DataFrame({"text": texts})])
def test_every_way_of_giving_rows_gives_what_the_adapter_says(encoder, wrap):
    model = Classifier(encoder, dtype="float32").fit(wrap(TEXTS), LABELS)
    assert model.predict(wrap(TEXTS)).tolist() == LABELS
    engine = Engine()
    data = engine.load_data({"text": TEXTS, "label": LABELS}, "text-classification", labels=["no", "yes"])
    adapter = engine.train(engine.load_base(encoder, dtype="float32"), data, strategy="linear_probe")
    probabilities = [[said.probabilities["no"], said.probabilities["yes"]] for said in adapter.predict(TEXTS)]
    np.testing.assert_array_equal(model.predict_proba(wrap(TEXTS)), probabilities)


@pytest.mark.parametrize("labels", [[3, 1], [True, False], np.array([2.0, -1.0]), ["b", "a"]])
def test_labels_come_back_as_they_were_given(encoder, labels):
    y = np.array([labels[number % 2] for number in range(24)])
    model = Classifier(encoder).fit(TEXTS, y)
    assert model.classes_.dtype == y.dtype
    assert model.classes_.tolist() == sorted(set(y.tolist()))
    assert model.predict(TEXTS).tolist() == y.tolist()


def test_numbers_are_in_the_units_of_y(encoder):
    model = Regressor(encoder).fit(TEXTS, NUMBERS)
    np.testing.assert_allclose(model.predict(TEXTS), NUMBERS, atol=0.2)
    assert model.score(TEXTS, NUMBERS) > 0.98


def test_folds_searches_and_pipelines_load_one_base(encoder, monkeypatch):
    loaded, load_base = [], Engine.load_base
    monkeypatch.setattr(Engine, "load_base", lambda *given, **named: loaded.append(1) or load_base(*given, **named))
    forget_base()
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    search = GridSearchCV(
        make_pipeline(lower, Classifier(encoder, settings={"penalty": 1.0})),
        {"classifier__settings": [{"penalty": 0.01}, {"penalty": 100.0}]}, cv=2, n_jobs=2,
    )  # fmt: skip
    with joblib.parallel_backend("threading"):
        search.fit(TEXTS, LABELS)
    assert search.best_score_ == 1.0
    assert cross_val_score(Classifier(encoder), TEXTS, LABELS, cv=3).tolist() == [1.0] * 3
    assert len(loaded) == 1


def test_other_processes_of_a_search_load_their_own(encoder):
    assert cross_val_score(Classifier(encoder), TEXTS, LABELS, cv=2, n_jobs=2).tolist() == [1.0] * 2


@pytest.mark.parametrize("strategy", ["linear_probe", "lora"])
def test_a_dump_is_the_adapter_and_not_the_base(encoder, strategy, tmp_path):
    model = Classifier(encoder, strategy, dtype="float32", config=FAST).fit(TEXTS, LABELS)
    joblib.dump(model, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(again.predict_proba(TEXTS), model.predict_proba(TEXTS))
    assert again.adapter_.base is model.adapter_.base, "it is loaded once"
    size = model.adapter_.save(tmp_path / "adapter").files["adapter_model.safetensors"].size
    assert (tmp_path / "model.joblib").stat().st_size < size + 40_000
    assert pickle.dumps(again), "what was not used yet is dumped as well"


def test_a_loaded_base_is_shared_and_not_copied(encoder):
    base = Engine().load_base(encoder)
    model = Classifier(base)
    assert clone(model).base is base
    assert clone(model).fit(TEXTS, LABELS).adapter_.base is base
    assert pickle.loads(pickle.dumps(model)).base == base.reference


def test_two_loaded_adapters_share_their_base(encoder, tmp_path):
    for number in range(2):
        Classifier(encoder).fit(TEXTS, LABELS).adapter_.save(tmp_path / str(number))
    forget_base()
    first, second = (ah.load_adapter(tmp_path / str(number)) for number in range(2))
    assert first.base is second.base
    assert first.predict(TEXTS) == second.predict(TEXTS)
    other = ah.load_adapter(tmp_path / "0", dtype="float32")
    assert other.base is not first.base


def test_a_base_that_was_exchanged_on_disk_is_not_the_one_in_use(references, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path / "cache"))  # where it was is remembered there
    place = tmp_path / "base"
    shutil.copytree(references("tiny-bert"), place)
    model = Classifier(str(place)).fit(TEXTS, LABELS)
    model.adapter_.save(tmp_path / "old")
    kept = ah.load_adapter(tmp_path / "old")
    shutil.rmtree(place)
    shutil.copytree(references("tiny-squeezebert"), place)
    forget_base()
    Classifier(str(place)).fit(TEXTS, LABELS).adapter_.save(tmp_path / "new")
    assert ah.load_adapter(tmp_path / "new").base is not kept.base


def test_what_cannot_be_fitted_is_said(encoder):
    model = Classifier(encoder)
    with pytest.raises(NotFittedError, match="call fit"):
        model.predict(TEXTS)
    for X, y, said in [
        ("one text", LABELS, "give a list"),
        ([], [], "0 rows"),
        (pd.DataFrame({"a": TEXTS, "b": TEXTS}), LABELS, "2 columns"),
        (TEXTS, LABELS[:-1], "24 rows and y has 23"),
        (TEXTS, ["yes"] * 24, "1 class"),
        (TEXTS, None, "y is None"),
        ([*TEXTS[:-1], ""], LABELS, "row 24"),
    ]:
        with pytest.raises(DataError, match=said) as refused:
            model.fit(X, y)
        assert isinstance(refused.value, ValueError)
    with pytest.raises(ConfigError, match="causal-lm has no 'label'"):
        Classifier(encoder, task="causal-lm").fit(TEXTS, LABELS)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    import builtins
    import importlib

    real = builtins.__import__

    def none(name, *rest):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "__import__", none)
        with pytest.raises(ah.AdapterHubError, match="pip install"):
            importlib.reload(estimators)
