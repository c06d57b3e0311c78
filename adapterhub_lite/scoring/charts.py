"""Charts of detailed scores as PNG files, by matplotlib, which is an extra."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from adapterhub_lite.errors import ConfigError, NotSupportedError, StorageError
from adapterhub_lite.scoring.by_class import ClassScores, Confusion
from adapterhub_lite.scoring.by_value import ValueDetail
from adapterhub_lite.scoring.calibration import Calibration
from adapterhub_lite.scoring.detail import Detail
from adapterhub_lite.scoring.of_classes import SHOWN, ClassDetail
from adapterhub_lite.scoring.of_labels import LabelDetail, TagDetail

BLUE, GREY, RED = "#3b6ea5", "#b8c4d0", "#b5483a"
DPI = 120
LONGEST = 40
"""Characters of a name that are shown."""


def check_charts(folder: str) -> Path:
    """The folder that charts go to.

    Raises:
        ConfigError: matplotlib is not installed, or the folder cannot be one.
    """
    if find_spec("matplotlib") is None:
        raise ConfigError("--charts needs matplotlib; pip install 'adapterhub-lite[plots]'")
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise ConfigError(f"--charts {folder}: is a file; name a folder")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--charts {folder}: the folder it would be in does not exist")
    return path


def draw(detail: Detail | None, folder: Path) -> list[Path]:
    """Write the charts of detailed scores to a folder, which is made where it is missing, and return their paths.

    Raises:
        NotSupportedError: there are no charts of such scores.
        StorageError: they cannot be written.
    """
    charts: dict[str, Callable[[], Any]] = {}
    if isinstance(detail, (ClassDetail, LabelDetail, TagDetail)):
        charts["by_class"] = lambda: _by_class(detail.scores)
    if isinstance(detail, (ClassDetail, LabelDetail)):
        charts["calibration"] = lambda: _calibration(detail.calibration)
    if isinstance(detail, ClassDetail):
        charts["confusions"] = lambda: _confusions(detail)
        charts["coverage"] = lambda: _coverage(detail)
    if isinstance(detail, ValueDetail):
        charts["values"] = lambda: _values(detail)
    if not charts:
        raise NotSupportedError("there are no charts for the scores of this task; leave --charts out")
    try:
        folder.mkdir(exist_ok=True)
        for name, made in charts.items():
            made().savefig(folder / f"{name}.png", dpi=DPI)
    except OSError as error:
        raise StorageError(f"{folder}: charts could not be written ({error.strerror or error})") from error
    return [folder / f"{name}.png" for name in charts]


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns)
    for axis in [axes] if columns == 1 else axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _by_class(scores: ClassScores) -> Any:
    """F1 of every class, the best on top, with its number of rows."""
    classes = sorted(scores.classes, key=lambda score: score.f1)
    figure, axis = _figure(8, 1.3 + 0.22 * max(3, len(classes)))
    names = [f"{_short(s.label)}{'' if s.known else ', not known'}  (n = {s.n})" for s in classes]
    axis.barh(
        names, [score.f1 for score in classes], color=[BLUE if score.known else RED for score in classes], height=0.7
    )
    axis.plot([score.precision for score in classes], names, "|", color="black", markersize=7, label="precision")
    axis.plot([score.recall for score in classes], names, ".", color="black", markersize=5, label="recall")
    axis.axvline(scores.averages["macro"]["f1"], color="black", linewidth=0.8, linestyle="--", label="macro-F1")
    axis.set(xlim=(0, 1.02), ylim=(-0.6, len(classes) - 0.4), xlabel="F1")
    axis.tick_params(axis="y", labelsize=8)
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=8)
    return figure


def _calibration(calibrated: Calibration) -> Any:
    """What probabilities say against what came true, and how many there are of each."""
    figure, axes = _figure(8.5, 4, columns=2)
    bins = calibrated.bins
    x, y = [b.probability for b in bins], [b.right for b in bins]
    # All right, or none: by rounding the end of the interval may be a little on the wrong side.
    below, above = ([max(0.0, sign * (b.right - b.interval[end])) for b in bins] for end, sign in ((0, 1), (1, -1)))
    axes[0].plot([0, 1], [0, 1], color=GREY, linewidth=1)
    axes[0].errorbar(
        x, y, [[*below], [*above]], fmt="o", color=BLUE, markersize=4, capsize=2, linewidth=1, clip_on=False
    )
    axes[0].set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="mean probability", ylabel="share that is right (95 % interval)")
    axes[0].set_title(f"ECE {calibrated.ece:.3f}", fontsize=10)
    widths = [b.high - b.low for b in bins]
    axes[1].bar([b.low for b in bins], [b.n for b in bins], widths, align="edge", color=BLUE, edgecolor="white")
    axes[1].set(xlim=(0, 1), xlabel="probability", ylabel="predictions")
    axes[1].yaxis.get_major_locator().set_params(integer=True)
    return figure


def _confusions(detail: ClassDetail) -> Any:
    """The matrix of few classes, or the most frequent confusions of many."""
    if detail.matrix is None:
        return _most_confused(detail.confusions)
    count, names = len(detail.names), [_short(name) for name in detail.names]
    size = max(3.6, 1.8 + 0.42 * count)
    figure, axis = _figure(size + 1, size)
    shares = [[cell / max(1, sum(row)) for cell in row] for row in detail.matrix]
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(detail.matrix):
        for j, cell in enumerate(row):
            if cell:
                axis.text(
                    j,
                    i,
                    str(cell),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if shares[i][j] > 0.5 else "black",
                )
    axis.set_xticks(
        range(count), names, rotation=45 if count > 3 else 0, ha="right" if count > 3 else "center", fontsize=8
    )
    axis.set_yticks(range(count), names, fontsize=8)
    axis.set(xlabel="predicted", ylabel="wanted")
    return figure


def _most_confused(confusions: tuple[Confusion, ...]) -> Any:
    top = confusions[:SHOWN][::-1]
    figure, axis = _figure(9, 1 + 0.27 * max(3, len(top)))
    names = [f"{_short(c.label)} → {_short(c.predicted)}" for c in top]
    bars = axis.barh(names, [c.count for c in top], color=BLUE, height=0.7)
    axis.bar_label(bars, [f"{c.share:.0%}" for c in top], padding=3, fontsize=8)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.tick_params(axis="y", labelsize=8)
    axis.set(xlabel="rows, and the share of the class that they are")
    axis.set_title("wanted → predicted", fontsize=10, loc="left")
    return figure


def _coverage(detail: ClassDetail) -> Any:
    """The accuracy of what would be answered, against how much that is."""
    figure, axis = _figure(5.5, 4)
    points = [point for point in detail.at_coverage if point.accuracy is not None]
    axis.plot([p.coverage for p in points], [p.accuracy for p in points], "o-", color=BLUE, markersize=4)
    if detail.answered is not None and detail.answered.accuracy is not None:
        axis.plot(detail.answered.coverage, detail.answered.accuracy, "D", color=RED, label="where it abstains now")
        axis.legend(frameon=False, fontsize=8)
    axis.set(xlim=(min(p.coverage for p in points) - 0.03, 1.02), xlabel="share of the rows that is answered")
    axis.set(ylabel="accuracy of the answers")
    return figure


def _values(detail: ValueDetail) -> Any:
    """Predicted against wanted numbers, and the errors."""
    figure, axes = _figure(9, 4, columns=2)
    wanted, said = zip(*detail.points, strict=True)
    ends = [min(*wanted, *said), max(*wanted, *said)]
    axes[0].plot(ends, ends, color=GREY, linewidth=1)
    axes[0].plot(wanted, said, ".", color=BLUE, markersize=3, alpha=0.6)
    axes[0].set(xlabel="wanted", ylabel="predicted")
    axes[1].hist([s - w for w, s in detail.points], bins=40, color=BLUE, edgecolor="white")
    axes[1].axvline(0, color="black", linewidth=0.8)
    axes[1].set(xlabel="predicted minus wanted", ylabel="rows")
    return figure


def _short(name: str) -> str:
    # A dollar sign would begin a formula.
    text = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    return text.replace("$", r"\$")
