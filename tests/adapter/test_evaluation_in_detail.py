"""An adapter's scores in detail, labels it does not know, and what is chosen on held-out rows and kept with it."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, classification_report, f1_score, log_loss

import adapterhub_lite as ah
from adapterhub_lite.adapter.parent import Parent
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.progress import Silent
from adapterhub_lite.scoring.decision import PLAIN
from adapterhub_lite.storage import read_adapter
from adapterhub_lite.tasks.outputs import ClassColumns
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig

WORDS = ("day", "bank", "bird", "tree", "card", "bill")
KINDS = ("good", "bad", "odd")


def rows(n: int, seed: int, wrong: float = 0.3) -> dict[str, list[Any]]:
    """Texts whose first word is their class, but for a share of them."""
    drawn = random.Random(seed)
    kinds = [drawn.choice(KINDS) for _ in range(n)]
    labels = [kind if drawn.random() > wrong else drawn.choice(KINDS) for kind in kinds]
    texts = [f"{kind} {drawn.choice(WORDS)} {drawn.choice(WORDS)}" for kind in kinds]
    return {"text": texts, "label": labels}


def several(n: int, seed: int) -> dict[str, list[Any]]:
    drawn = random.Random(seed)
    there = [[kind for kind in KINDS if drawn.random() < 0.4] for _ in range(n)]
    texts = [" ".join([*kinds, drawn.choice(WORDS)]) for kinds in there]
    return {"text": texts, "labels": [[kind for kind in kinds if drawn.random() < 0.6] for kinds in there]}


@pytest.fixture(scope="module")
def probe() -> Any:
    """From training options to an adapter that was fitted to 90 rows and scored on 120."""
    engine, base = Engine(progress=Silent()), tiny_base("encoder")

    def train(config: dict[str, Any] | None = None, made: Any = rows, **options: Any) -> ah.Adapter:
        data = engine.load_data(made(90, 0), "text-classification")
        given = {"eval_data": made(120, 1), "strategy": "linear_probe", "settings": {"penalty": 1e-3}, **options}
        return engine.train(base, data, config=TrainConfig(**(config or {})), **given)

    return train


@pytest.fixture(scope="module")
def plain(probe: Any) -> ah.Adapter:
    return probe({"calibrate": "off"})  # type: ignore[no-any-return]


def test_the_detail_is_that_of_its_predictions(plain: ah.Adapter) -> None:
    data = rows(150, 2)
    scored, said = plain.evaluate(data), plain.predict(data["text"])
    names = [p.label for p in said]
    theirs = classification_report(data["label"], names, output_dict=True, zero_division=0)
    assert scored.detail is not None
    record = json.loads(json.dumps(scored.detail.record(), allow_nan=False))
    for own in record["classes"]:
        wanted = theirs[own["label"]]
        assert [own[key] for key in ("precision", "recall", "f1", "n")] == list(wanted.values())
    assert scored.metrics["macro_f1"] == theirs["macro avg"]["f1-score"]
    assert record["averages"]["macro"]["f1"] == scored.metrics["macro_f1"]
    matrix = np.array(record["confusion_matrix"]["counts"])
    assert np.trace(matrix) / matrix.sum() == pytest.approx(scored.metrics["accuracy"])
    assert sum(b["n"] for b in record["calibration"]["bins"]) == 150
    assert record["calibration"]["mean_probability"] == pytest.approx(np.mean([p.probability for p in said]), abs=1e-6)
    assert scored.rows is not None
    columns = scored.rows.columns(ClassColumns())
    assert (columns["wanted"], columns["prediction"]) == (data["label"], names)
    assert set(scored.record()) == {
        *("n", "accuracy", "macro_f1", "loss", "accuracy_low", "accuracy_high", "macro_f1_low", "macro_f1_high")
    }


def test_labels_it_does_not_know_count_as_wrong_and_are_listed(plain: ah.Adapter) -> None:
    data = rows(60, 3)
    for row in (4, 10, 11):
        data["label"][row] = "new"
    data["label"][20] = "other"
    scored = plain.evaluate(data)
    names = [p.label for p in plain.predict(data["text"])]
    theirs = classification_report(data["label"], names, output_dict=True, zero_division=0)
    assert scored.n == 60
    assert scored.metrics["accuracy"] == pytest.approx(accuracy_score(data["label"], names))
    assert scored.metrics["macro_f1"] == theirs["macro avg"]["f1-score"]
    assert [(u.label, u.n, u.rows) for u in scored.unknown] == [("new", 3, (5, 11, 12)), ("other", 1, (21,))]
    assert any(
        "2 labels of the data the adapter does not know: 'new' in 3 rows (5, 11, 12), 'other' in row 21; such" in note
        for note in scored.notes
    )
    assert scored.detail is not None
    assert "detail" not in repr(scored)  # a table a class would bury the scores of a printed evaluation
    record = scored.detail.record()
    assert {own["label"]: own["known"] for own in record["classes"]} == {
        "good": True, "bad": True, "odd": True, "new": False, "other": False,
    }  # fmt: skip
    known = [row for row in range(60) if data["label"][row] in KINDS]
    of_known = plain.evaluate({key: [values[row] for row in known] for key, values in data.items()})
    assert scored.metrics["loss"] == pytest.approx(of_known.metrics["loss"])
    assert of_known.unknown == ()
    with pytest.raises(DataError, match="label 'new' is not one the adapter knows"):
        plain.load_data(data)  # which is for training and comparing
    with pytest.raises(DataError, match="label 'x' is not one the adapter knows"):
        plain.evaluate({"text": data["text"], "label": ["x"] * 60})  # none is known: another column


def test_a_file_of_one_class_is_scored(plain: ah.Adapter) -> None:
    data = {"text": ["good day", "bad day", "good bank"], "label": ["good"] * 3}
    scored = plain.evaluate(data)
    names = [p.label for p in plain.predict(data["text"])]
    assert scored.metrics["macro_f1"] == f1_score(data["label"], names, average="macro", zero_division=0)
    assert scored.detail is not None
    assert scored.detail.sections()


def test_unknown_ones_among_several_labels(probe: Any) -> None:
    adapter = probe(made=several)
    data = several(80, 4)
    data["labels"][3] = [*data["labels"][3], "new"]
    data["labels"][5] = ["new", "other"]
    scored = adapter.evaluate(data)
    names = (*KINDS, "new", "other")
    wanted = np.array([[name in row for name in names] for row in data["labels"]])
    said = np.array([[name in p.labels for name in names] for p in adapter.predict(data["text"])])
    for average in ("macro", "micro"):
        assert scored.metrics[f"{average}_f1"] == pytest.approx(
            f1_score(wanted, said, average=average, zero_division=0)
        )
    assert scored.metrics["exact_match"] == pytest.approx(accuracy_score(wanted, said))
    theirs = classification_report(wanted, said, target_names=names, output_dict=True, zero_division=0)
    for own in scored.detail.record()["classes"]:
        assert [own[key] for key in ("precision", "recall", "f1", "n")] == list(theirs[own["label"]].values())
    assert [(u.label, u.rows) for u in scored.unknown] == [("new", (4, 6)), ("other", (6,))]
    assert scored.rows.columns(ClassColumns())["wanted"][5] == ["new", "other"]


def test_unknown_tags(engine: Any) -> None:
    texts = [["good", "day"], ["bad", "bird"], ["good", "tree"], ["bad", "bank"]] * 4
    data = engine.load_data({"tokens": texts, "tags": [["B-X", "O"], ["O", "O"]] * 8}, "token-classification")
    adapter = engine.train(tiny_base("encoder"), data, strategy="linear_probe", settings={"penalty": 1e-3})
    tags = [["B-X", "O"], ["O", "O"]] * 8
    tags[0], tags[1] = ["B-Y", "O"], ["O", "B-Y"]
    scored = adapter.evaluate({"tokens": texts, "tags": tags})
    said = [p.tags for p in adapter.predict(texts)]
    pairs = [(w, s) for want, say in zip(tags, said, strict=True) for w, s in zip(want, say, strict=True)]
    assert scored.metrics["accuracy"] == pytest.approx(np.mean([w == s for w, s in pairs]))
    hits, true, found = (
        sum(map(of, pairs)) for of in (lambda p: p[0] == p[1] != "O", lambda p: p[0] != "O", lambda p: p[1] != "O")
    )
    assert scored.metrics["f1"] == pytest.approx(2 * hits / (true + found))
    kinds = {own["label"]: own for own in scored.detail.record()["classes"]}
    assert (kinds["Y"]["n"], kinds["Y"]["known"], kinds["Y"]["recall"]) == (2, False, 0.0)
    assert [(u.label, u.n, u.rows) for u in scored.unknown] == [("B-Y", 2, (1, 2))]


def test_numbers_have_their_errors_by_range(engine: Any) -> None:
    data = {"text": rows(40, 5)["text"], "target": [float(len(t)) for t in rows(40, 5)["text"]]}
    adapter = engine.train(
        tiny_base("encoder"),
        engine.load_data(data, "text-regression"),
        strategy="linear_probe",
        settings={"penalty": 1e-2},
    )
    scored = adapter.evaluate(data)
    said = [p.value for p in adapter.predict(data["text"])]
    assert scored.detail.all.rmse == pytest.approx(scored.metrics["rmse"])
    assert scored.detail.all.r2 == pytest.approx(scored.metrics["r2"])
    assert scored.detail.residuals["q50"] == pytest.approx(np.median(np.array(said) - data["target"]), abs=1e-5)
    assert scored.rows.columns(ClassColumns())["wanted"] == data["target"]
    json.dumps(scored.in_full(), allow_nan=False)


# What is chosen on held-out rows.


def test_a_temperature_divides_logits_where_it_improves_the_loss(probe: Any, plain: ah.Adapter, tmp_path: Path) -> None:
    adapter = probe()  # on noisy labels, a hardly penalized probe is too sure
    chosen = adapter.attachment.task.decision.temperature
    assert chosen is not None
    assert chosen.value > 1.1
    assert chosen.rows == 120
    texts = rows(30, 6)["text"]
    before = np.array([list(p.probabilities.values()) for p in plain.predict(texts)])
    after = np.array([list(p.probabilities.values()) for p in adapter.predict(texts)])
    scaled = before ** (1 / chosen.value)
    assert after == pytest.approx(scaled / scaled.sum(axis=1, keepdims=True), abs=1e-5)
    data = rows(120, 1)
    known = list(adapter.labels)
    p = np.array([list(q.probabilities.values()) for q in adapter.predict(data["text"])])
    p /= p.sum(axis=1, keepdims=True)  # from the rounding of float32
    assert adapter.metrics["loss"] == pytest.approx(log_loss(data["label"], p, labels=known), rel=1e-4)
    assert adapter.metrics["loss"] < plain.metrics["loss"] == pytest.approx(chosen.loss_before, rel=1e-5)
    assert adapter.metrics["accuracy"] == plain.metrics["accuracy"]
    adapter.save(tmp_path / "a")
    again = Engine(progress=Silent()).load_adapter(tmp_path / "a", base=adapter.base)
    assert again.attachment.task.decision == adapter.attachment.task.decision
    assert [q.probabilities for q in again.predict(texts)] == [q.probabilities for q in adapter.predict(texts)]


def test_nothing_of_it_is_in_the_files_that_others_read(probe: Any, plain: ah.Adapter, tmp_path: Path) -> None:
    chosen = probe({"abstain": "coverage=0.8"})
    chosen.save(tmp_path / "chosen")
    plain.save(tmp_path / "plain")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "chosen" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert "decision" not in json.loads((tmp_path / "plain" / "adapterhub.json").read_text())["task"]
    probes = [read_adapter(tmp_path / name).manifest.probe for name in ("chosen", "plain")]
    assert probes[0] == probes[1]


def test_it_answers_nothing_where_it_is_not_sure(probe: Any, tmp_path: Path) -> None:
    adapter = probe({"abstain": "coverage=0.8"})
    kept = adapter.attachment.task.decision.abstention
    assert (kept.rule, kept.rows) == ("coverage=0.8", 120)
    adapter.save(tmp_path / "a")
    again = Engine(progress=Silent()).load_adapter(tmp_path / "a", base=adapter.base)
    data = rows(120, 1)
    said = again.predict(data["text"])
    assert all((p.label == "") == (p.probability < kept.threshold) for p in said)
    assert all(p.probability == max(p.probabilities.values()) for p in said)
    answered = [(p.label, label) for p, label in zip(said, data["label"], strict=True) if p.label]
    scored = again.evaluate(data)
    assert scored.metrics["coverage"] == pytest.approx(len(answered) / 120)
    assert 0.8 <= scored.metrics["coverage"] < 0.9
    assert scored.metrics["accuracy_answered"] == pytest.approx(np.mean([a == b for a, b in answered]))
    low, high = scored.intervals["accuracy_answered"]
    assert low < scored.metrics["accuracy_answered"] < high
    assert scored.detail.answered.n == len(answered)  # type: ignore[union-attr]
    assert adapter.metrics == scored.record()


def test_it_can_be_chosen_afterwards(plain: ah.Adapter) -> None:
    try:
        scored = plain.choose(rows(200, 7), abstain="precision=0.75")
        assert scored is not None
        assert scored.metrics["accuracy_answered"] >= 0.75
        kept = plain.attachment.task.decision.abstention
        assert kept is not None
        assert kept.accuracy == pytest.approx(0.75, abs=0.1)  # of rows left out of choosing
        with pytest.raises(DataError, match=r"precision=0.99 is not reached"):
            plain.choose(rows(200, 7), abstain="precision=0.99")
        assert plain.attachment.task.decision.abstention == kept
        assert plain.choose(abstain="threshold=0.5") is None
        assert all(bool(p.label) == (p.probability >= 0.5) for p in plain.predict(rows(40, 8)["text"]))
        for rules in ({"abstain": "coverage=0.5"}, {"calibrate": True}):
            with pytest.raises(ConfigError, match="held-out rows; give some"):
                plain.choose(**rules)
        with pytest.raises(ConfigError, match="use --abstain"):
            plain.choose(rows(200, 7), label_thresholds="f1")
    finally:
        plain.choose(abstain="off")
    assert plain.attachment.task.decision == PLAIN


def test_a_new_temperature_ends_thresholds_of_the_old_one(probe: Any) -> None:
    adapter = probe({"abstain": "coverage=0.8"})
    first = adapter.attachment.task.decision.temperature
    adapter.choose(rows(120, 1), calibrate=True)
    assert adapter.attachment.task.decision.abstention is None
    assert adapter.attachment.task.decision.temperature.value == pytest.approx(first.value, rel=1e-4)


def test_what_cannot_be_reached_ends_no_training(probe: Any, tmp_path: Path) -> None:
    adapter = probe({"abstain": "precision=0.99"})
    assert "precision=0.99 is not reached" in adapter.training["not_chosen"]
    assert adapter.attachment.task.decision.abstention is None
    assert adapter.attachment.task.decision.temperature is not None
    assert "coverage" not in adapter.metrics


def test_thresholds_of_labels_are_kept(probe: Any, tmp_path: Path) -> None:
    adapter = probe({"label_thresholds": "f1"}, made=several)
    half = probe(made=several)
    kept = adapter.attachment.task.decision.labels
    assert len(kept.thresholds) == 3
    assert kept.macro_f1_after >= kept.macro_f1_before == pytest.approx(half.metrics["macro_f1"])
    assert adapter.metrics["macro_f1"] >= half.metrics["macro_f1"]
    adapter.save(tmp_path / "a")
    again = Engine(progress=Silent()).load_adapter(tmp_path / "a", base=adapter.base)
    data = several(60, 8)
    for p in again.predict(data["text"]):
        own = zip(p.probabilities.items(), kept.thresholds, strict=True)
        assert p.labels == tuple(name for (name, value), threshold in own if value >= threshold)
    assert again.evaluate(data).detail.thresholds == tuple(kept.thresholds)  # type: ignore[union-attr]


def test_what_is_refused_before_training(probe: Any) -> None:
    with pytest.raises(ConfigError, match=r"--abstain coverage=0.9 is chosen on held-out rows"):
        probe({"abstain": "coverage=0.9"}, eval_data=None)
    with pytest.raises(ConfigError, match=r"coverage is a number between 0 and 1"):
        probe({"abstain": "coverage=9"})
    with pytest.raises(ConfigError, match="no rule 'covrage'"):
        probe({"abstain": "covrage=0.9"})
    with pytest.raises(ConfigError, match="use --label-thresholds"):
        probe({"abstain": "coverage=0.9"}, made=several)
    assert probe({"abstain": "threshold=0.6"}, eval_data=None).attachment.task.decision.abstention.threshold == 0.6


def test_too_few_rows_choose_nothing(probe: Any) -> None:
    adapter = probe({"abstain": "coverage=0.9"}, eval_data=rows(12, 9))
    assert "there are 12 held-out rows" in adapter.training["not_chosen"]
    assert adapter.attachment.task.decision == PLAIN


def test_going_on_begins_without_it(probe: Any, tmp_path: Path) -> None:
    probe({"abstain": "coverage=0.8"}).save(tmp_path / "a")
    assert Parent.open(tmp_path / "a").task_record(()).decision == PLAIN


def test_a_forged_decision_is_refused(probe: Any, tmp_path: Path) -> None:
    from adapterhub_lite.storage import TaskRecord

    record = {"name": "t", "labels": ["a", "b"], "columns": {}, "preprocessing": {}}
    good = {"thresholds": [0.5, 0.5], "rule": "f1", "rows": 30, "macro_f1_before": 0.5, "macro_f1_after": 0.5}
    TaskRecord.model_validate({**record, "decision": {"labels": good}})
    for bad in (
        {"labels": {**good, "thresholds": [0.5]}},
        {"labels": {**good, "thresholds": [0.5, 2]}},
        {"temperature": {"value": 0, "rows": 30, "loss_before": 1, "loss_after": 1}},
        {"temperature": {"value": math.inf, "rows": 30, "loss_before": 1, "loss_after": 1}},
        {"abstention": {"threshold": -1, "rule": "", "rows": 0}},
        {"more": 1},
    ):
        with pytest.raises(ValueError, match="validation error"):
            TaskRecord.model_validate({**record, "decision": bad})


def test_a_reader_that_hands_no_unknown_labels_on_refuses_them(
    plain: ah.Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapterhub_text import reading

    monkeypatch.setattr(reading, "Dataset", lambda *given, unknown=(), **more: ah.Dataset(*given, **more))
    with pytest.raises(DataError, match=r"row 2.*label 'new' is not one the adapter knows"):
        plain.evaluate({"text": ["good day", "bad day"], "label": ["good", "new"]})
    assert plain.evaluate({"text": ["good day", "bad day"], "label": ["good", "bad"]}).n == 2
