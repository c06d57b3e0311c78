"""From the facts of a report to its page, part by part; a part that has nothing to say is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from adapterhub_lite.names import human_size, scores_shown
from adapterhub_lite.pages.content import Content, Page, Part, Picture, Points, Shade, Table
from adapterhub_lite.pages.drawing import can_draw, drawing
from adapterhub_lite.pages.render import cut
from adapterhub_lite.reporting import pictures
from adapterhub_lite.reporting.limits import limits
from adapterhub_lite.reporting.lines import five_lines, score_text
from adapterhub_lite.reporting.made_by import made_by
from adapterhub_lite.reporting.rows_shown import answers, most_wrong, saliency

FEW_CLASSES = 12
"""Whose matrix is a table with numbers."""
MOST_CONFUSIONS = 15
FEWEST_TO_ADVISE = 5
"""Held-out rows of a class from which it is said to be one to label more of."""


def page_of(facts: Mapping[str, Any], *, beside: bool = False) -> Page:
    """The page of one adapter's report; `beside` says that report.json lies in the same folder."""
    made = [part(facts) for part in PARTS]
    drawn = "" if can_draw() else " Nothing is drawn, because matplotlib is not installed."
    numbers = " The numbers of this page are in report.json beside it." if beside else ""
    return Page(
        title=f"Report on {facts['name']}",
        subtitle=f"{facts['adapter']['task']}, made {facts['made'].replace('T', ' ').removesuffix('+00:00')} UTC",
        lead=five_lines(facts),
        parts=[part for part in made if part is not None],
        warned=bool(facts["warnings"]),
        foot=f"Made by adapterhub-lite.{numbers}{drawn}",
    )


def drawn(draw: Callable[[], Markup | None], caption: str, *, wide: bool = False) -> Iterator[Picture]:
    """A drawing with what it shows; nothing where matplotlib is missing or there is nothing to draw."""
    if not can_draw():
        return
    with drawing():
        made = draw()
    if made is not None:
        yield Picture(made, caption, wide)


def _scores(facts: Mapping[str, Any]) -> Part | None:
    metric = facts["metric"]
    if not facts["metrics"]:
        return Part("Scores", ["No rows were held out, so that there are none. Score the adapter on labelled rows that it "
                               "has not seen: adapterhub-lite evaluate, or this report with --data FILE."])  # fmt: skip
    content: list[Content] = [
        *drawn(lambda: pictures.beside(facts), "The adapter beside models that cost less; lines are 95 % intervals."),
        Table("Scores on held-out rows, with 95 % intervals", ("score", "value"), scores_shown(facts["metrics"])),
    ]
    if facts["baselines"]:
        rows = [
            (one["name"], score_text(metric, one["score"]), _interval(metric, one.get("interval")), one["from"])
            for one in facts["baselines"]
        ]
        content.append(Table(f"What it has to beat, in {metric}", ("model", metric, "95 % interval", "measured"), rows))
    notes = (facts["scores"] or {}).get("notes") or []
    return Part(
        "Scores", [*facts["adapter"]["decision"], *(f"On reading the rows: {note}." for note in notes)], content
    )


def _warned(facts: Mapping[str, Any]) -> Part | None:
    return Part("Warnings", (), [Points(facts["warnings"])]) if len(facts["warnings"]) > 1 else None


def _learning(facts: Mapping[str, Any]) -> Part | None:
    curves = facts["curves"]
    if not curves["losses"]:
        return None
    every = curves["steps_a_point"]
    say = [f"A point of the training loss is the mean of {every} steps." if every > 1 else ""]
    best = facts["training"].get("best_step")
    if best is not None and curves["evaluations"]:
        steady = facts["training"].get("keep") == "last-good"
        why = "the last that is not surely worse than the best" if steady else "which scored best"
        say.append(f"The adapter is the one of step {best}, {why} (dashed line).")
    rows: list[tuple[Any, ...]] = [
        (step, *(scores.get(name) for name in ("loss", facts["metric"]))) for step, scores in curves["evaluations"]
    ]
    columns = ["after step", "held-out loss", facts["metric"].replace("_", " ")]
    if facts["metric"] == "loss":
        rows, columns = [row[:2] for row in rows], columns[:2]
    content: list[Content] = [*drawn(lambda: pictures.learning(facts), "Loss and score by step.")]
    if rows:
        content.append(Table("Held-out scores as training went on", columns, rows))
    return Part("Learning", [text for text in say if text], content)


def _classes(facts: Mapping[str, Any]) -> Part | None:
    classes: Sequence[Mapping[str, Any]] = facts["classes"]
    if not classes:
        return None
    rows = [
        (
            cut(one["label"], 120) + ("" if one["known"] else " (not known to the adapter)"),
            one["learnt_from"],
            one["n"],
            Shade(one["f1"], 1 - one["f1"], good=False),
            _share(one["precision"], one["precision_interval"]),
            _share(one["recall"], one["recall_interval"]),
        )
        for one in classes
    ]
    columns = ("class", "learnt from", "held out", "F1", "precision (95 %)", "recall (95 %)")
    say = [
        "Precision: of what is called so, how much is. Recall: of what is so, how much is called so. The worst come first."
    ]
    advice = to_label(facts)
    if advice:
        say.insert(0, advice)
    return Part("Classes", say, [Table("Scores by class, with Wilson's 95 % intervals", columns, rows)])


def to_label(facts: Mapping[str, Any]) -> str | None:
    """Which classes to label more of: those that lose the most rows, missed or taken for them."""
    lost = []
    for one in facts["classes"]:
        missed, taken = one["n"] - one["hits"], one["predicted"] - one["hits"]
        if one["n"] >= FEWEST_TO_ADVISE and missed + taken:
            lost.append((missed + taken, missed, taken, one))
    if not lost:
        return None
    lost.sort(key=lambda own: -own[0])
    told = [
        f"{cut(one['label'], 60)} ({missed} of {one['n']} missed, {taken} of others taken for it"
        + (f"; {one['learnt_from']} rows learnt from)" if one["learnt_from"] is not None else ")")
        for _, missed, taken, one in lost[:3]
    ]
    return f"Label more of: {'; '.join(told)}."


def _confusion(facts: Mapping[str, Any]) -> Part | None:
    told = facts["confusion"]
    confusions = ((facts["scores"] or {}).get("detail") or {}).get("confusions") or []
    if not told or len(told["labels"]) < 2:
        return None
    say, content, labels = [], list[Content](), told["labels"]
    if not confusions:
        say.append("No class is taken for another on the held-out rows.")
    if len(labels) <= FEW_CLASSES:
        totals = [max(1, sum(row)) for row in told["counts"]]
        rows = [
            (
                f"{i + 1} {cut(label, 120)}",
                *(Shade(n, 0.1 + 0.9 * n / totals[i], i == j) if n else "" for j, n in enumerate(told["counts"][i])),
            )
            for i, label in enumerate(labels)
        ]
        numbers = tuple(map(str, range(1, len(labels) + 1)))
        content.append(Table("Rows as labelled, columns as predicted", ("labelled", *numbers), rows))
    else:
        left = f" {told['left_out']} classes with fewer mistakes are left out." if told["left_out"] else ""
        caption = (
            "A row for each class as labelled, the columns as predicted, in the same order: blue on the diagonal is right, "
            f"orange beside it is not. Classes that are mixed up stand together.{left}"
        )
        content += drawn(lambda: pictures.confused(facts), caption, wide=True)
    if told["clusters"]:
        content.insert(0, Points([f"Mixed up with each other: {_cluster(one)}." for one in told["clusters"][:5]]))
    if confusions:
        shown = [
            (cut(one["label"], 120), cut(one["predicted"], 120), one["count"], f"{one['share']:.0%}")
            for one in confusions
        ]
        caption = f"The {min(len(shown), MOST_CONFUSIONS)} most frequent of {len(shown)} confusions"
        columns = ("labelled", "predicted as", "rows", "of the class")
        content.append(Table(caption, columns, shown[:MOST_CONFUSIONS]))
    return Part("Confusions", say, content)


def _cluster(one: Mapping[str, Any]) -> str:
    return f"{', '.join(one['labels'])} ({one['mistakes']} mistakes)"


def _slices(facts: Mapping[str, Any]) -> Part | None:
    if not facts["slices"]:
        return None
    metric = "mean error" if facts["adapter"]["kind"] == "value" else "right"
    key = "mae" if metric == "mean error" else "accuracy"
    rows = []
    for one in facts["slices"]:
        verdict = (
            "too few rows to say" if one["n"] < 10 else "worse" if one["worse"] else "better" if one["apart"] else ""
        )
        interval = _interval(key, one["interval"])
        rows.append((f"{one['column']}: {one['value']}", one["n"], score_text(key, one["score"]), interval, verdict))
    say = [
        "Slices are the values of columns that play no other role, and the length of texts. One is called worse or better where "
        "the score of all other rows lies outside its interval, which is widened for the number of slices."
    ]
    return Part(
        "Slices", say, [Table("Parts of the held-out rows", ("slice", "rows", metric, "95 %", "beside the rest"), rows)]
    )


def _calibration(facts: Mapping[str, Any]) -> Part | None:
    told = ((facts["scores"] or {}).get("detail") or {}).get("calibration")
    if not told:
        return None
    say = [
        f"The mean probability is {told['mean_probability']:.1%}, and {told['right']:.1%} come true; the expected calibration "
        f"error (ECE) is {told['ece']:.3f}. On the line, a probability is what it says; below it, the adapter is too sure."
    ]
    rows = [
        (f"{one['low']:.2f} to {one['high']:.2f}", one["n"], one["probability"], one["right"],
         _interval("accuracy", one["interval"]))
        for one in told["bins"]
    ]  # fmt: skip
    columns = ("probability", "rows", "mean", "share right", "95 %")
    content = [*drawn(lambda: pictures.calibrated(facts), "Whether probabilities can be believed.")]
    return Part("Calibration", say, [*content, Table("What probabilities say, and what came true", columns, rows)])


def _values(facts: Mapping[str, Any]) -> Part | None:
    detail = (facts["scores"] or {}).get("detail") or {}
    if "ranges" not in detail:
        return None
    rows = [
        (
            f"{round(one['low'], 3) + 0:g} to {round(one['high'], 3) + 0:g}",
            one["n"],
            one["rmse"],
            one["mae"],
            one["bias"],
            one["r2"],
        )
        for one in (*detail["ranges"], detail["all"])
    ]
    columns = ("wanted", "rows", "rmse", "mae", "predicted minus wanted", "R²")
    caption = "Errors from the smallest to the largest wanted number; the last row is of all"
    content = [*drawn(lambda: pictures.values(facts, facts.get("points") or ()), "On the line, a prediction is right.")]
    return Part("Numbers", (), [*content, Table(caption, columns, rows)])


def _time(facts: Mapping[str, Any]) -> Part | None:
    content = [*drawn(lambda: pictures.through_time(facts), "Held-out series with the most windows.")]
    return Part("Over time", (), content) if content else None


def _language(facts: Mapping[str, Any]) -> Part | None:
    told, forgotten = facts.get("by_position"), facts["training"].get("forgetting")
    if not told and not forgotten:
        return None
    say, content = [], list[Content]()
    if told:
        say.append(f"Measured on {told['examples']} held-out examples, {told['tokens']:,} tokens that are learnt.")
        content += drawn(lambda: pictures.by_position(facts), "Where in an answer the loss fell.")
        rows = [(pictures.places(one), one["tokens"], one["bare"], one["adapted"]) for one in told["buckets"]]
        content.append(Table("Loss by place of the token", ("place", "tokens", "bare base", "adapter"), rows))
    if isinstance(forgotten, Mapping):
        general = [(name.replace("_", " "), value) for name, value in forgotten.items()]
        content.append(Table("What the base forgot, on general text", ("measured", "value"), general))
    else:
        say.append("What the base forgot was not measured; train with --general-text to know.")
    return Part("Tokens", say, content)


def _trained(facts: Mapping[str, Any]) -> Part | None:
    told = facts["trained"]
    if not told.get("weights"):
        return None
    say = [
        f"{told['weights']:,} weights were trained, {told['weights'] / max(1, told['of_base']):.3%} of the base's "
        f"{told['of_base']:,}; they take {human_size(told['bytes'])}. {told['head']:,} of them are the task's head."
    ]
    rows = [
        (f"layer {one['layer']}" if one["layer"].isdigit() else one["layer"], one["weights"], one["update"],
         f"{one['update'] / one['base']:.2%}" if one["update"] is not None and one["base"] else None)
        for one in told["layers"]
    ]  # fmt: skip
    content = [*drawn(lambda: pictures.moved(facts), "Where learning happened: how far each layer's weights moved.")]
    columns = ("where", "trained weights", "norm of the change", "of the base's weights")
    return Part("What was trained", say, [*content, Table("Layers, first to last", columns, rows)] if rows else content)


def _short(number: float) -> str:
    return f"{round(number, 3) + 0.0:g}"


def _share(value: float, interval: Any) -> str:
    """A share in whole percent with its interval."""
    return f"{value:.0%}" if interval is None else f"{value:.0%} ({interval[0]:.0%} to {interval[1]:.0%})"


def _interval(metric: str, interval: Any) -> str | None:
    low, high = interval or (None, None)
    if low is None or high is None:
        return None
    return f"{score_text(metric, low)} to {score_text(metric, high)}"


PARTS: Sequence[Callable[[Mapping[str, Any]], Part | None]] = (
    _scores, _warned, _classes, _confusion, _slices, _values, _time, _calibration, most_wrong, saliency, answers,
    _language, _learning, _trained, made_by, limits,
)  # fmt: skip
