"""Scores by class, calibration, temperature and thresholds beside scikit-learn and beside searches that try everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import classification_report, confusion_matrix as sklearn_matrix

from adapterhub_lite.errors import ConfigError, DataError, NotSupportedError, StorageError
from adapterhub_lite.scoring import calibration as module, charts
from adapterhub_lite.scoring.abstaining import choose_abstention
from adapterhub_lite.scoring.by_class import confusion_matrix, confusions, of_classes, of_labels
from adapterhub_lite.scoring.by_value import of_values
from adapterhub_lite.scoring.calibration import BINS, calibration
from adapterhub_lite.scoring.charts import draw
from adapterhub_lite.scoring.detail import Detail
from adapterhub_lite.scoring.folds import folds_of
from adapterhub_lite.scoring.label_thresholds import NEVER, choose_for_labels
from adapterhub_lite.scoring.of_classes import detail_of_classes
from adapterhub_lite.scoring.of_labels import TagDetail, detail_of_labels
from adapterhub_lite.scoring.rules import ABSTAIN, LABELS, Rule
from adapterhub_lite.scoring.temperature import find_temperature, fit_inverse, log_losses, probabilities

NAMES = ("a", "b", "c", "d", "e", "f")


def classes(seed: int, n: int, there: list[int], said: list[int]) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.choice(there, n), random.choice(said, n)


CASES = [
    ([0, 1, 2, 3], [0, 1, 2, 3]),
    ([0, 1, 2, 3], [0, 1]),  # two are never predicted
    ([0, 1], [0, 1, 2, 3]),  # two are absent in the file
    ([0], [0, 1]),  # a file with one class
    ([0, 1], [2, 3]),  # nothing is right
    ([0, 1, 4, 5], [0, 1]),  # two that the adapter does not know
]


@pytest.mark.parametrize(("there", "said"), CASES, ids=str)
@pytest.mark.parametrize("n", [1, 7, 1003])
def test_every_score_by_class_is_that_of_scikit_learn(there: list[int], said: list[int], n: int) -> None:
    wanted, predicted = classes(n, n, there, said)
    ours = of_classes(wanted, predicted, NAMES, known=4)
    names = np.array(NAMES)
    theirs = classification_report(names[wanted], names[predicted], output_dict=True, zero_division=0)
    for score in ours.classes:
        own = theirs[score.label]
        assert (score.precision, score.recall, score.f1) == (own["precision"], own["recall"], own["f1-score"])
        assert (score.n, score.known) == (own["support"], score.label in NAMES[:4])
        assert score.predicted == (names[predicted] == score.label).sum()
    assert {score.label for score in ours.classes} == theirs.keys() - {"accuracy", "macro avg", "weighted avg"}
    assert {*ours.absent} == {*NAMES} - {score.label for score in ours.classes}
    for kind in ("macro", "weighted"):
        means = theirs[f"{kind} avg"]
        assert ours.averages[kind] == {
            "precision": means["precision"],
            "recall": means["recall"],
            "f1": means["f1-score"],
        }
    assert ours.averages["micro"]["f1"] == theirs["accuracy"]


def test_every_score_by_label_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    wanted, said = random.random((400, 6)) < 0.3, random.random((400, 6)) < 0.3
    wanted[:, 1] = said[:, 2] = False  # one that no row has, one that is never given
    ours = of_labels(wanted, said, NAMES, known=6)
    theirs = classification_report(wanted, said, target_names=NAMES, output_dict=True, zero_division=0)
    for score in ours.classes:
        own = theirs[score.label]
        assert (score.precision, score.recall, score.f1, score.n) == tuple(own.values())
    for kind in ("macro", "weighted", "micro"):
        assert tuple(ours.averages[kind].values()) == tuple(theirs[f"{kind} avg"].values())[:3]


def test_confusions_are_those_of_the_matrix() -> None:
    wanted, said = classes(1, 500, [0, 1, 2, 3, 4], [0, 1, 2, 3])
    matrix = confusion_matrix(wanted, said, 6)
    assert (matrix == sklearn_matrix(wanted, said, labels=range(6))).all()
    found = confusions(wanted, said, NAMES)
    assert [c.count for c in found] == sorted((c.count for c in found), reverse=True)
    assert {(c.label, c.predicted): c.count for c in found} == {
        (NAMES[i], NAMES[j]): matrix[i, j] for i in range(6) for j in range(6) if i != j and matrix[i, j]
    }
    assert all(c.share == c.count / (wanted == NAMES.index(c.label)).sum() for c in found)


def test_the_calibration_error_is_the_sum_of_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    p, right = random.random(3000), random.random(3000) < 0.6
    p[:3] = 0.0, 1.0, 1 / BINS  # a border belongs to the bin below it
    wanted = 0.0
    for i in range(BINS):  # Guo et al. 2017, equations 1 to 3, a bin and a row at a time
        inside = [row for row in range(3000) if i / BINS < p[row] <= (i + 1) / BINS or (i == 0 and p[row] == 0)]
        wanted += abs(sum(right[inside]) / len(inside) - sum(p[inside]) / len(inside)) * len(inside) / 3000
    found = calibration(p, right)
    assert found.ece == pytest.approx(wanted, abs=1e-12)
    assert sum(b.n for b in found.bins) == 3000
    assert all(b.interval[0] <= b.right <= b.interval[1] for b in found.bins)
    assert calibration(np.array([1.0]), np.array([True])).ece == 0.0
    monkeypatch.setattr(module, "AT_ONCE", 7)
    assert calibration(p.reshape(1000, 3), right.reshape(1000, 3)).ece == pytest.approx(found.ece, abs=1e-12)


@pytest.mark.parametrize("several", [False, True])
def test_the_temperature_is_the_one_that_a_search_finds(several: bool) -> None:
    random = np.random.default_rng(3)
    true = random.normal(size=(600, 5)) * 2
    if several:
        targets = (random.random((600, 5)) < 1 / (1 + np.exp(-true))).astype(np.int64)
    else:
        targets = np.array([random.choice(5, p=row) for row in probabilities(true)])
    logits = true * 3  # three times too sure of itself
    smooth = 1 / 602
    grid = np.exp(np.linspace(np.log(0.05), np.log(2), 4001))

    def loss(inverse: float) -> float:
        if several:
            q = np.where(targets > 0, 1 - smooth, smooth)
            return float((np.logaddexp(0, logits * inverse) - q * logits * inverse).mean())
        q = np.full((600, 5), smooth / 4)
        q[np.arange(600), targets] = 1 - smooth
        return float(-(q * np.log(probabilities(logits * inverse))).sum(axis=1).mean())

    best = min(grid, key=loss)
    assert fit_inverse(logits, targets) == pytest.approx(best, rel=2e-3)
    assert best == pytest.approx(1 / 3, rel=0.15)
    found = find_temperature(logits, targets)
    assert found is not None
    assert found.value == pytest.approx(1 / best, rel=2e-3)
    assert found.loss_before == pytest.approx(log_losses(logits, targets).mean())
    assert log_losses(logits / found.value, targets).mean() < found.loss_after < found.loss_before


def test_a_temperature_that_improves_nothing_is_none() -> None:
    random = np.random.default_rng(4)
    logits = random.normal(size=(2000, 4)) * 1.5
    targets = np.array([random.choice(4, p=row) for row in probabilities(logits)])  # as sure as it is right
    found = find_temperature(logits, targets)
    assert found is None or found.value == pytest.approx(1, abs=0.05)
    assert find_temperature(logits[:19], targets[:19]) is None  # too few rows to leave any out
    assert find_temperature(logits, targets, groups=[0, 1, 2, 3] * 500) is None


def test_rows_that_are_all_right_do_not_make_it_sure_of_everything() -> None:
    logits = np.random.default_rng(5).normal(size=(40, 3))
    found = find_temperature(logits, logits.argmax(axis=1))
    assert found is not None
    assert 0.05 < found.value < 1
    assert probabilities(logits / found.value).max(axis=1).mean() < 0.999


def test_a_coverage_and_a_precision_are_reached_with_the_lowest_threshold() -> None:
    random = np.random.default_rng(6)
    p = np.round(random.random(500), 2)  # with ties
    right = random.random(500) < p
    covering = choose_abstention(p, right, Rule("coverage", 0.9))
    shares = {t: (p >= t).mean() for t in np.unique(p)}
    assert (p >= covering.threshold).mean() == min(share for share in shares.values() if share >= 0.9)
    precise = choose_abstention(p, right, Rule("precision", 0.8))
    reached = [t for t in np.unique(p) if right[p >= t].mean() >= 0.8 and (p >= t).sum() >= 5]
    assert ((p >= precise.threshold) == (p >= min(reached))).all()
    # Of rows that were not chosen on: near what was asked, and not above it by construction.
    assert precise.accuracy == pytest.approx(0.8, abs=0.06)
    assert covering.coverage == pytest.approx(0.9, abs=0.03)


def test_scores_of_rows_left_out_are_those_of_choosing_anew() -> None:
    random = np.random.default_rng(7)
    p, groups = random.random(60), list(np.repeat(range(12), 5))
    right = random.random(60) < p
    rule = Rule("precision", 0.7)
    found = choose_abstention(p, right, rule, groups)
    parts = folds_of(60, groups)
    assert parts is not None
    assert all(len({*parts[np.array(groups) == group]}) == 1 for group in range(12))
    answered = np.zeros(60, bool)
    for part in range(5):
        rest = parts != part
        reached = [t for t in p[rest] if right[rest][p[rest] >= t].mean() >= 0.7 and (p[rest] >= t).sum() >= 4]
        below = max((q for q in p[rest] if q < min(reached)), default=0.0)
        answered[~rest] = p[~rest] >= (min(reached) + below) / 2
    assert (found.coverage, found.accuracy) == (answered.mean(), right[answered].mean())


def test_what_cannot_be_reached_is_said() -> None:
    p, right = np.linspace(0.1, 0.9, 100), np.arange(100) % 2 == 0
    with pytest.raises(DataError, match=r"precision=0.95 is not reached.*the surest 20 are right in 50.0%"):
        choose_abstention(p, right, Rule("precision", 0.95))
    with pytest.raises(DataError, match="1000 answers at least"):
        choose_abstention(p, np.ones(100, bool), Rule("precision", 0.999))
    with pytest.raises(DataError, match=r"20 at least.*there are 19 held-out rows"):
        choose_abstention(p[:19], right[:19], Rule("coverage", 0.9))
    with pytest.raises(DataError, match="not reached for any label"):
        choose_for_labels(p[:, None], ~right[:, None] & (p[:, None] < 0.3), Rule("precision", 0.99))


def test_thresholds_of_labels_have_the_best_f1_or_the_precision() -> None:
    random = np.random.default_rng(8)
    p = random.random((800, 4))
    wanted = random.random((800, 4)) < p**3  # a half is far too low
    wanted[:, 3] = False
    found = choose_for_labels(p, wanted, Rule("f1"))

    def f1(label: int, threshold: float) -> float:
        said = p[:, label] >= threshold
        return 2 * (said & wanted[:, label]).sum() / (said.sum() + wanted[:, label].sum())

    for label in range(3):
        assert f1(label, found.thresholds[label]) == pytest.approx(max(f1(label, t) for t in p[:, label]))
    assert found.thresholds[3] == 0.5
    assert found.macro_f1_after > found.macro_f1_before
    precise = choose_for_labels(p, wanted, Rule("precision", 0.6))
    for label in range(3):
        said = p[:, label] >= precise.thresholds[label]
        assert wanted[said, label].mean() >= 0.6
    assert precise.thresholds[3] == NEVER


def test_a_label_keeps_a_half_where_another_threshold_is_luck() -> None:
    random = np.random.default_rng(9)
    wanted = random.random((60, 30)) < 0.5
    p = np.where(wanted, random.uniform(0.4, 1, (60, 30)), random.uniform(0, 0.6, (60, 30)))  # a half is best
    found = choose_for_labels(p, wanted, Rule("f1"))
    assert found.thresholds.count(0.5) > 8
    assert found.macro_f1_after >= found.macro_f1_before


@pytest.mark.parametrize(
    ("text", "kinds", "said"),
    [
        ("coverage=1.5", ABSTAIN, "between 0 and 1"),
        ("coverage=0", ABSTAIN, "between 0 and 1"),
        ("precision=nan", ABSTAIN, "between 0 and 1"),
        ("precision", ABSTAIN, "between 0 and 1"),
        ("covrage=0.9", ABSTAIN, r"no rule 'covrage' \(did you mean 'coverage'\?\)"),
        ("f1", ABSTAIN, "no rule 'f1'"),
        ("coverage=0.9", LABELS, "no rule 'coverage'"),
        ("f1=2", LABELS, "takes no number"),
        ("off=1", LABELS, "takes no number"),
    ],
)
def test_a_rule_that_is_none_is_refused(text: str, kinds: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Rule.parse(text, "--abstain", kinds)


def test_rules_are_written_as_they_are_read() -> None:
    for text in ("coverage=0.9", "precision=0.95", "threshold=0.5", "off"):
        assert str(Rule.parse(f" {text} ", "--abstain", ABSTAIN)) == text
    assert [Rule.parse(text, "", LABELS).needs_rows for text in ("f1", "precision=0.5", "off")] == [True, True, False]


def test_what_is_answered_is_counted() -> None:
    wanted, said = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    detail = detail_of_classes(wanted, said, np.array([0.9, 0.8, 0.6, 0.5]), ("a", "b"), 2, 0.7)
    assert detail.answered is not None
    assert (detail.answered.n, detail.answered.coverage, detail.answered.accuracy) == (2, 0.5, 1.0)
    assert detail.matrix == ((2, 0), (1, 1))
    nothing = detail_of_classes(wanted, said, np.array([0.5] * 4), ("a", "b"), 2, 0.7).answered
    assert nothing is not None
    assert (nothing.coverage, nothing.accuracy) == (0.0, None)


def test_errors_by_range_are_those_of_the_rows_in_it() -> None:
    random = np.random.default_rng(10)
    wanted = np.round(random.normal(size=300) * 3)  # with ties
    said = wanted + random.normal(size=300)
    detail = of_values(wanted, said)
    assert sum(r.n for r in detail.ranges) == 300
    for r in detail.ranges:
        inside = (wanted >= r.low) & (wanted <= r.high)
        error = (said - wanted)[inside]
        assert (r.n, r.bias) == (inside.sum(), pytest.approx(error.mean()))
        assert (r.rmse, r.mae) == (pytest.approx(np.sqrt((error**2).mean())), pytest.approx(abs(error).mean()))
        spread = ((wanted[inside] - wanted[inside].mean()) ** 2).sum()
        assert r.r2 == (pytest.approx(1 - (error**2).sum() / spread) if spread else None)
    assert detail.residuals["q50"] == pytest.approx(np.median(said - wanted))
    alone = of_values(np.array([1.0]), np.array([2.0]))
    assert (alone.all.n, alone.all.r2, alone.ranges[0].bias) == (1, None, 1.0)


def test_charts_of_every_kind_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "DPI", 20)  # which is quick
    random = np.random.default_rng(11)
    wanted, said = classes(11, 300, list(range(6)), list(range(6)))
    many = [f"class ${i}" for i in range(30)]
    p = random.random((200, 3))
    kinds: dict[str, tuple[Detail, list[str]]] = {
        "few": (
            detail_of_classes(wanted, said, random.random(300), NAMES, 6, 0.5),
            ["by_class", "calibration", "confusions", "coverage"],
        ),
        "many": (
            detail_of_classes(wanted, said, random.random(300), many, 30, None),
            ["by_class", "calibration", "confusions", "coverage"],
        ),
        "one": (detail_of_classes(wanted * 0, wanted * 0, random.random(300), NAMES, 6, None), []),
        "labels": (detail_of_labels(p > 0.6, p > 0.5, p, NAMES[:3], 3, [0.5] * 3), ["by_class", "calibration"]),
        "tags": (TagDetail(of_classes(wanted, said, NAMES, 6)), ["by_class"]),
        "values": (of_values(random.normal(size=50), random.normal(size=50)), ["values"]),
        "value": (of_values(np.array([1.0]), np.array([1.0])), ["values"]),
    }
    for name, (detail, drawn) in kinds.items():
        paths = draw(detail, tmp_path / name)
        assert not drawn or [path.stem for path in paths] == drawn
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    with pytest.raises(NotSupportedError, match="no charts"):
        draw(None, tmp_path / "none")
    with pytest.raises(StorageError, match="could not be written"):
        draw(kinds["values"][0], tmp_path / "missing" / "folder")
