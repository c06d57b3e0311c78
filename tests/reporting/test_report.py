"""What a report says is so: its numbers against plain counts, its text as text, and what happens where there is little."""

from __future__ import annotations

import html.parser
import json
import math
import re
import shutil
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from markupsafe import Markup

from adapterhub_lite.errors import ConfigError, StorageError
from adapterhub_lite.interrupt import Stopped
from adapterhub_lite.reporting import (
    baselines,
    engine as reporting_engine,
    gather as gathering,
    page as page_module,
    pictures as pictures_of,
    saliency as looking,
    warned,
)
from adapterhub_lite.reporting.compared import paired
from adapterhub_lite.reporting.gather import gather
from adapterhub_lite.reporting.known import Known
from adapterhub_lite.reporting.outcome import Report, report_of_saved, write
from adapterhub_lite.reporting.page import page_of, to_label
from adapterhub_lite.reporting.saved import saved_facts
from adapterhub_lite.reporting.slices import slices
from tests.reporting.conftest import HOSTILE, good_and_bad


def facts_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def page_in(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


class Seen(html.parser.HTMLParser):
    """The tags of a page, and whether each one is closed in its turn."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_a_run_leaves_a_page_and_its_numbers(plain):
    facts, page = facts_in(plain.folder), page_in(plain.folder)
    assert facts["metrics"] == plain.adapter.metrics
    for title in ("Scores", "Classes", "Confusions", "Slices", "Calibration", "Learning", "What was trained", "Limits"):
        assert f">{title}</h2>" in page
    for about in ("What", "Learnt from", "How good", "Beside", "Biggest warning"):
        assert f"<dt>{about}</dt>" in page
    assert f"{plain.adapter.metrics['accuracy']:.1%}" in page
    assert "report.json beside it" in page
    assert "report.json" not in Report(facts).html()  # which may be written anywhere
    assert Seen(page).open == []


def test_counts_are_those_of_the_predictions(plain):
    facts = facts_in(plain.folder)
    said = [one.label for one in plain.adapter.predict(list(plain.held_out.inputs))]
    wanted = [plain.held_out.labels[target] for target in plain.held_out.targets]
    pairs = Counter(zip(wanted, said, strict=True))
    told, labels = facts["confusion"]["counts"], facts["confusion"]["labels"]
    counts = {(a, b): told[i][j] for i, a in enumerate(labels) for j, b in enumerate(labels)}
    assert {pair: n for pair, n in counts.items() if n} == dict(pairs)
    assert facts["rows"] == [float(a == b) for a, b in zip(wanted, said, strict=True)]
    by_class = {one["label"]: one for one in facts["classes"]}
    learnt = Counter(plain.data.labels[target] for target in plain.data.targets)
    for label, one in by_class.items():
        hits, n = pairs[label, label], wanted.count(label)
        assert (one["hits"], one["n"], one["learnt_from"]) == (hits, n, learnt[label])
        # Wilson 1927: the shares whose distance from what was seen is 1.96 of their own standard errors.
        for end in one["recall_interval"]:
            assert abs(hits / n - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), abs=1e-6)


def test_slices_are_of_columns_without_a_role_and_three_rows_are_too_few(plain):
    facts = facts_in(plain.folder)
    shops = {one["value"]: one for one in facts["slices"] if one["column"] == "shop"}
    values = plain.held_out.table.column("shop")
    assert {value: one["n"] for value, one in shops.items()} == Counter(values)
    for value, one in shops.items():
        own = [right for right, at in zip(facts["rows"], values, strict=True) if at == value]
        assert one["score"] == pytest.approx(np.mean(own))
    assert shops["tiny"]["n"] == 3
    assert not shops["tiny"]["apart"]
    assert "too few rows to say" in page_in(plain.folder)
    assert sum(one["n"] for one in facts["slices"] if one["column"] == "length") == len(plain.held_out)


@pytest.mark.parametrize(("wrong", "apart"), [(3, False), (12, True)])
def test_a_slice_that_is_worse_is_said_to_be_where_it_has_rows_enough(plain, reporting, wrong, apart):
    places = ["far"] * wrong + ["near"] * 60
    rows = [{"text": f"good card {i}", "label": "good", "place": place} for i, place in enumerate(places)]
    data = reporting.load_data(rows, "text-classification", labels=plain.data.labels)
    known = Known(plain.adapter, None, data, None)
    told = {one["value"]: one for one in slices(known, [0.0] * wrong + [1.0] * 60) if one["column"] == "place"}
    assert (told["far"]["apart"], told["far"]["worse"]) == (apart, apart)
    assert not told["near"]["worse"]


def test_baselines_are_those_of_scikit_learn(plain):
    from sklearn.dummy import DummyClassifier
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    told = {one["name"]: one["score"] for one in facts_in(plain.folder)["baselines"]}
    x, new = list(plain.data.inputs), list(plain.held_out.inputs)
    y, wanted = list(plain.data.targets), list(plain.held_out.targets)
    assert told["always the commonest"] == DummyClassifier().fit(x, y).score(new, wanted)
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    model = GridSearchCV(
        LogisticRegression(max_iter=1000),
        {"C": [1.0, 10.0, 100.0]},
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
    )
    model.fit(vectors.fit_transform(x), y)
    assert told["TF-IDF of words, linear"] == pytest.approx(model.score(vectors.transform(new), wanted))


def test_what_many_rows_or_long_texts_would_cost_is_left_out_and_said(plain, monkeypatch):
    known = Known(plain.adapter, plain.data, plain.held_out, plain.adapter.scored)
    texts = [*plain.data.inputs, *plain.held_out.inputs]
    monkeypatch.setattr(baselines, "MOST_LETTERS", sum(map(len, texts)))
    assert [one["name"] for one in baselines.baselines(known)][:2] == [
        "always the commonest",
        "TF-IDF of words, linear",
    ]
    monkeypatch.setattr(baselines, "MOST_LETTERS", sum(map(len, texts)) - 1)
    assert "TF-IDF of words, linear" not in [one["name"] for one in baselines.baselines(known)]
    monkeypatch.setattr(baselines, "MOST_ROWS", len(texts) - 1)
    assert [one for one in baselines.baselines(known) if one["from"] == "fitted to the same rows"] == []
    both = Known(plain.adapter, plain.data, plain.data.select([0, 1, 2, 3]), None)
    assert warned.repeated(both)[0] == 1.0
    monkeypatch.setattr(warned, "MOST_COMPARED", len(plain.data) - 1)
    assert warned.repeated(both) == (0.0, [])
    assert [len(one.left_out) for one in (known, both)] == [2, 1]


def test_the_change_of_each_layer_is_the_one_that_peft_computes(plain):
    layers = {one["layer"]: one for one in facts_in(plain.folder)["trained"]["layers"]}
    plain.adapter.use()
    updates: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for path, module in plain.adapter.base.model.named_modules():
        if hasattr(module, "get_delta_weight"):
            layer = str(int(path.split("layer.")[1].split(".")[0]) + 1)
            updates[layer] += float(module.get_delta_weight(module.active_adapters[0]).detach().pow(2).sum())
            weights[layer] += float(module.get_base_layer().weight.detach().pow(2).sum())
    assert layers.keys() == updates.keys() == {"1", "2"}
    for layer, one in layers.items():
        assert one["update"] == pytest.approx(updates[layer] ** 0.5, rel=1e-4)
        assert one["base"] == pytest.approx(weights[layer] ** 0.5, rel=1e-4)


def test_text_of_the_data_is_text(hostile):
    page = page_in(hostile.folder)
    seen = Seen(page)
    assert seen.open == []
    assert not {"script", "b", "iframe"} & set(seen.tags)
    assert not [one for one in seen.attributes if one[1].startswith("on")]
    for tag, name, value in seen.attributes:
        if name in ("src", "href", "xlink:href"):
            assert value.startswith(("#", "data:")), (tag, name, value[:80])
    text = "".join(seen.text)
    assert HOSTILE[0] in text
    assert "[U+202E]gnp.exe[U+2066]" in text
    assert "[U+0007]" in text
    assert not set("\u202e\u2066\u200f\u0007") & set(page)
    assert "moneymoney" in text
    assert "money" * 200 not in text  # 10,000 letters are cut
    assert "{{ 7 * 7 }}" in text


def test_examples_can_be_left_out(hostile):
    report = Report(facts_in(hostile.folder)).without_examples()
    assert "gnp.exe" in page_in(hostile.folder)
    assert "gnp.exe" not in report.html()
    assert "gnp.exe" not in json.dumps(report.facts)


def test_the_page_says_which_class_to_label_more_of():
    def one(label: str, n: int, hits: int, predicted: int) -> dict[str, Any]:
        return {"label": label, "n": n, "hits": hits, "predicted": predicted, "learnt_from": 7}

    classes = [one("fine", 20, 20, 21), one("poor", 20, 11, 13), one("tiny", 2, 0, 9)]
    advice = to_label({"classes": classes})
    assert advice is not None
    assert advice.startswith("Label more of: poor (9 of 20 missed, 2 of others taken for it; 7 rows learnt from)")
    assert "tiny" not in advice


def test_a_part_that_fails_is_named_and_the_others_are_there(plain, monkeypatch):
    def broken(*_: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory")

    names = ["trained", "baselines", "classes", "slices", "confusion", "most_wrong"]
    for name in names:
        monkeypatch.setattr(gathering, name, broken)
    facts = gather(Known(plain.adapter, plain.data, plain.held_out, plain.adapter.scored), name="words")
    assert len([line for line in facts["left_out"] if line.endswith("out of memory")]) == len(names)
    assert facts["metrics"] == plain.adapter.metrics
    page = Report(facts).html()
    assert ">Calibration</h2>" in page
    assert "the scores by class: OutOfMemoryError" in page


def test_a_report_that_cannot_be_written_leaves_no_part_of_it(tmp_path, monkeypatch):
    path = tmp_path / "page.html"

    def full(own: Path, text: str, **_: Any) -> int:
        own.write_bytes(text[:2].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StorageError, match="No space left"):
        write(path, "a page")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [(RuntimeError("no luck"), "no luck"), (KeyboardInterrupt(), "interrupted"), (Stopped(2), "interrupted")],
)
def test_a_report_that_fails_is_said_and_the_run_goes_on(run_on, reporting, monkeypatch, error, words):
    said: list[str] = []

    def broken(*_: Any, **__: Any) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(reporting_engine, "gather", broken)
    monkeypatch.setattr(reporting.progress, "say", said.append)
    run = run_on(good_and_bad(24, 3), good_and_bad(24, 4))
    assert run.adapter.metrics["n"] == 24
    assert not (run.folder / "report.html").exists()
    assert any("no report was left" in line and words in line for line in said)


def test_an_old_adapter_has_a_page_without_a_run_folder(adapter, tmp_path):
    report = report_of_saved([adapter])
    text = report.html()
    assert "Report on words" in text
    assert "made from what is saved with the adapter alone" in text
    assert report.save(tmp_path / "page.html").read_text(encoding="utf-8") == text


def test_a_saved_adapter_is_reported_as_its_run_was_and_another_one_is_not(plain, tmp_path):
    path = plain.folder.with_name("words")
    plain.adapter.save(path)
    assert report_of_saved([path]).facts["classes"] == facts_in(plain.folder)["classes"]
    file = plain.folder / "report.json"
    before = file.read_text(encoding="utf-8")
    try:
        file.write_text(json.dumps({**json.loads(before), "metrics": {"accuracy": 1.0}}), encoding="utf-8")
        assert report_of_saved([path]).facts["classes"] == []
        file.write_text("{", encoding="utf-8")
        assert report_of_saved([path]).facts["metrics"]["accuracy"] == plain.adapter.metrics["accuracy"]
    finally:
        file.write_text(before, encoding="utf-8")


def test_one_class_and_two_hundred(run_on):
    one = run_on(good_and_bad(20, 5), [row for row in good_and_bad(40, 6) if row["label"] == "good"])
    assert any("of one class" in line for line in facts_in(one.folder)["warnings"])
    names = [f"class number {i}" for i in range(200)]
    rows = [{"text": f"{name} card {i}", "label": name} for name in names for i in range(2)]
    many = run_on(rows, rows[::2])
    page, facts = page_in(many.folder), facts_in(many.folder)
    assert len(facts["classes"]) == 200
    assert len(facts["confusion"]["labels"]) == 80
    assert facts["confusion"]["left_out"] + 80 <= 200
    assert len(page) < 400_000
    assert Seen(page).open == []


def test_two_adapters_are_compared_on_the_same_rows(plain, reporting):
    facts = facts_in(plain.folder)
    other = json.loads(json.dumps(facts))
    other["name"] = "worse"
    other["rows"] = [1.0 - right if i % 4 == 0 else right for i, right in enumerate(facts["rows"])]
    other["metrics"]["accuracy"] = float(np.mean(other["rows"]))
    report = Report.of([facts, other])
    text = report.html()
    assert "2 adapters compared" in text
    gaps = np.array(other["rows"]) - np.array(facts["rows"])
    best, gap = ("words", gaps) if gaps.mean() < 0 else ("worse", -gaps)
    half = 1.959964 * gap.std(ddof=1) / math.sqrt(len(gap))
    assert f"{gap.mean():+.3f} ({gap.mean() - half:+.3f} to {gap.mean() + half:+.3f})" in text
    assert f"{best}, " in text
    with pytest.raises(ConfigError):
        reporting.report([])
    # Other rows of one file, as of another seed, and rows that are not known, are not the same.
    table = plain.held_out.select(range(59, -1, -1))
    there = gather(Known(plain.adapter, None, table, None), name="other")["data"]
    assert there["held_out_sha256"] == facts["data"]["held_out_sha256"]
    for rows in (there["held_out_rows_sha256"], None):
        apart = {**other, "data": {**other["data"], "held_out_rows_sha256": rows}}
        assert paired(apart, facts) is None
        text = Report.of([facts, apart]).html()
        assert "not all scored on the same rows" in text
    assert paired(other, facts) is not None


def test_on_other_rows_nothing_of_the_training_or_of_this_process_stands_beside(
    plain, reporting, monkeypatch, tmp_path
):
    other = reporting.load_data(good_and_bad(30, 11), "text-classification", labels=plain.data.labels)
    before, scored = dict(plain.adapter.metrics), plain.adapter.scored
    row = {"name": "contender", "score": 0.5}
    monkeypatch.setitem(plain.adapter.training, "comparison", {"contenders": [row], "best_adapter": "lora"})
    assert [one["name"] for one in reporting.report(plain.adapter).facts["baselines"]] == ["contender"]
    facts = reporting.report(plain.adapter, data=other).facts
    assert facts["metrics"]["n"] == 30
    assert facts["baselines"] == []
    assert (plain.adapter.metrics, plain.adapter.scored) == (before, scored)  # those of the caller stay
    assert facts["machine"] == {"seconds": plain.adapter.training["seconds"]}
    path = plain.folder.with_name("words")
    monkeypatch.delitem(plain.adapter.training, "comparison")
    shutil.copytree(plain.folder, tmp_path / "moved.run")
    plain.adapter.save(path)
    shutil.copytree(path, tmp_path / "moved")
    run_of = facts_in(tmp_path / "moved.run")
    with_run = reporting.facts_of(plain.adapter, other, saved=tmp_path / "moved")
    assert (with_run["machine"], with_run["run"]["versions"]) == (run_of["machine"], run_of["run"]["versions"])
    assert with_run["name"] == "moved"
    shutil.rmtree(tmp_path / "moved.run")
    versions, told = {"torch": "0.1"}, saved_facts(tmp_path / "moved")
    monkeypatch.setattr(
        reporting_engine, "saved_facts", lambda _: {**told, "run": {**told["run"], "versions": versions}}
    )
    alone = reporting.facts_of(plain.adapter, other, saved=tmp_path / "moved")
    assert alone["run"]["versions"] == versions
    assert "peak_memory" not in alone["machine"]
    assert "most memory of the process" not in Report(alone).html()


def test_names_are_drawn_as_they_are_whatever_the_settings_of_the_process(monkeypatch):
    import matplotlib as mpl

    names = ["font: 9px a", 'id="b', "#010203", "url(#c)"]
    models = [{"name": name, "score": 0.5, "interval": (0.4, 0.6)} for name in names]
    monkeypatch.setitem(mpl.rcParams, "text.usetex", True)  # which would call a program that need not be there
    texts: list[str] = []

    def draw() -> Markup:
        return pictures_of.scores_drawn(models, "accuracy", "Scores", "few", names[0])

    def drawn_by_one() -> None:
        texts.extend(str(picture.svg) for picture in page_module.drawn(draw, "Scores."))

    threads = [Thread(target=drawn_by_one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(texts)) == 1
    assert len(texts) == 3
    assert mpl.rcParams["text.usetex"] is True
    written = {text.strip() for text in Seen(texts[0]).text}
    assert set(names) <= written
    assert "#010203" not in re.sub(r">[^<]*<", "><", texts[0])


def test_no_run_spends_minutes_on_its_report_and_a_note_is_there_once(plain, monkeypatch):
    monkeypatch.setitem(plain.adapter.training, "seconds", 1e6)
    known = Known.of(plain.adapter, plain.data, plain.held_out, examples=True)
    assert known.seconds == 120.0
    known.left_out += ["twice", "twice"]
    assert gather(known, name="words")["left_out"].count("twice") == 1
    assert "kind" in vars(known)  # looked up once, not for every row


def test_without_matplotlib_there_are_tables_alone(plain, monkeypatch):
    from adapterhub_lite.reporting import page

    monkeypatch.setattr(page, "can_draw", lambda: False)
    text = Report(facts_in(plain.folder)).html()
    assert "<svg" not in text
    assert "Nothing is drawn, because matplotlib is not installed." in text
    assert [part.title for part in page_of(facts_in(plain.folder)).parts].count("Calibration") == 1


def test_images_have_saliency_by_occlusion_that_finds_the_square_that_counts(
    pictures, load, references, tmp_path, monkeypatch
):
    from adapterhub_lite.progress import Silent
    from adapterhub_lite.reporting.engine import Engine

    engine = Engine(progress=Silent())
    adapter = engine.train(load(references("tiny-vit")), pictures, strategy="linear_probe", eval_data=pictures)
    facts = engine.report(adapter, data=pictures, out=tmp_path / "page.html").facts
    page = Seen((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.tags["img"] == 2 * len(facts["saliency"]) + len(facts["examples"])
    assert all(value.startswith("data:image/png;base64,") for tag, name, value in page.attributes if name == "src")
    one = facts["saliency"][0]
    row = one["row"] - 1
    # Naively: each square of the grid painted grey in turn, and the largest fall of the predicted class.
    from PIL import Image

    with Image.open(pictures.inputs[row]) as opened:
        image = np.asarray(opened.convert("RGB"))
    before = adapter.predict([image])[0].probabilities[one["predicted"]]
    edges = [32 * i // one["grid"] for i in range(one["grid"] + 1)]
    falls = []
    for top, bottom in pairwise(edges):
        for left, right in pairwise(edges):
            covered = image.copy()
            covered[top:bottom, left:right] = 127
            falls.append(before - adapter.predict([covered])[0].probabilities[one["predicted"]])
    assert one["largest_fall"] == pytest.approx(max(0.0, *falls), abs=1e-5)
    gone = tmp_path / "gone.png"
    broken = replace(pictures, inputs=(gone, *pictures.inputs[1:]))
    known = Known.of(adapter, None, None, examples=True, seconds=60.0)
    known.scored = replace(adapter.scored, rows=replace(adapter.scored.rows, data=broken))
    monkeypatch.setattr(looking, "_chosen", lambda *_: [0, row])
    assert [one["row"] for one in looking.saliency(known)] == [row + 1]
    assert known.left_out == ["1 image that cannot be opened again"]
    adapter.detach()


def test_windows_of_series_have_predictions_over_time(load, references, tmp_path):
    from adapterhub_lite.progress import Silent
    from adapterhub_lite.reporting.engine import Engine

    rows = [
        {"unit": f"u{unit}", "cycle": t, "a": math.sin(t / 3) + unit, "b": t / 40, "c": unit, "left": 40 - t}
        for unit in range(4)
        for t in range(40)
    ]
    columns = {"series": "unit", "time": "cycle", "target": "left", "channels": "a,b,c"}
    engine = Engine(progress=Silent())
    data = engine.load_data(rows, "series-regression", columns=columns, options={"window": 32, "stride": 2})
    held_out = data.select([i for i, group in enumerate(data.groups) if group in ("u2", "u3")])
    learnt = data.select([i for i, group in enumerate(data.groups) if group not in ("u2", "u3")])
    folder = tmp_path / "engines.run"
    base = load(references("tiny-patchtst"))
    adapter = engine.train(base, learnt, strategy="linear_probe", eval_data=held_out, run_folder=folder)
    facts, said = facts_in(folder), [one.value for one in adapter.predict(held_out)]
    assert {one["group"] for one in facts["through_time"]} == {"u2", "u3"}
    for one in facts["through_time"]:
        own = [i for i, group in enumerate(held_out.groups) if group == one["group"]]
        assert [point[0] for point in one["points"]] == [held_out.targets[i] for i in own]
        assert [point[1] for point in one["points"]] == pytest.approx([said[i] for i in own], rel=1e-4, abs=1e-3)
    mean = np.mean(learnt.targets)
    naive = float(np.sqrt(np.mean((np.array(held_out.targets) - mean) ** 2)))
    assert facts["baselines"][0]["score"] == pytest.approx(naive, rel=1e-4)
    assert facts["rows"] == pytest.approx(np.abs(np.array(said) - held_out.targets), rel=1e-3, abs=1e-3)
    page = page_in(folder)
    assert '<h2 id="over-time">' in page
    assert page.count("<polyline") >= len(facts["examples"])
    left = Report(facts).without_examples()
    bare = gather(Known.of(adapter, None, held_out, examples=False), name="engines")
    assert {"through_time", "points"} <= {name for name, value in facts.items() if value}
    for told in (left.facts, bare):
        assert not told.get("through_time")
        assert "points" not in told
    assert '<h2 id="over-time">' not in left.html()
    assert "u2" not in json.dumps(left.facts)
    adapter.detach()


def test_a_language_model_has_loss_by_place_and_answers_before_and_after(run_on, reporting):
    rows = [
        {"prompt": f"where is my {a} ", "completion": f"the {a} is {b} here"}
        for a in ("card", "bill", "app")
        for b in ("not", "still")
    ]
    run = run_on(rows, rows, "lora", "tiny-llama", "causal-lm")
    facts = reporting.report(run.adapter, data=run.held_out).facts
    told = facts["by_position"]
    assert told["tokens"] == sum(bucket["tokens"] for bucket in told["buckets"])
    assert told["adapted"] == pytest.approx(run.adapter.evaluate(run.held_out).metrics["loss"], rel=1e-4)
    weighed = sum(bucket["bare"] * bucket["tokens"] for bucket in told["buckets"]) / told["tokens"]
    assert told["bare"] == pytest.approx(weighed)
    assert told["adapted"] < told["bare"]
    first = facts["answers"][0]
    options = {"max_new_tokens": first["tokens"]}
    assert first["adapted"] == run.adapter.generate(run.held_out.select([0]), **options)[0]
    assert first["wanted"].strip() == rows[0]["completion"]
    assert "where is my card" in first["prompt"]
    page = Report(facts).html()
    for title in ("Answers", "Tokens", "Learning"):
        assert f">{title}</h2>" in page


@pytest.mark.parametrize(("wanted", "left"), [("off", False), ("no-examples", True), ("nonsense", False)])
def test_a_run_can_be_told_to_leave_none_or_one_without_rows(plain, reporting, monkeypatch, tmp_path, wanted, left):
    said: list[str] = []
    monkeypatch.setattr(reporting.progress, "say", said.append)
    monkeypatch.setenv("ADAPTERHUB_REPORT", wanted)
    folder = tmp_path / "again.run"
    path = reporting.leave_report(plain.adapter, plain.data, plain.held_out, folder=folder)
    assert (path is not None) == left == (folder / "report.html").exists()
    if left:
        assert ">Most wrong</h2>" in page_in(plain.folder)
        assert ">Most wrong</h2>" not in page_in(folder)
        assert "examples" not in facts_in(folder)
    assert [line for line in said if "choose one of: on, no-examples, off" in line] == said[: wanted == "nonsense"]


def test_a_comparison_leaves_its_contenders_in_the_report(run, references, tmp_path):
    from adapterhub_lite.training.run.layout import check_run_folder

    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in good_and_bad(60, 8)), encoding="utf-8")
    done = run(
        "compare", "--base", references("tiny-bert"), "--data", file, "--task", "text-classification", "--strategies",
        "linear_probe", "--out", tmp_path / "best",
    )  # fmt: skip
    assert done.code == 0, done.err
    facts = facts_in(tmp_path / "best.run")
    assert {one["name"] for one in facts["baselines"]} == {"most frequent", "TF-IDF + logistic regression"}
    assert {one["from"] for one in facts["baselines"]} == {"comparison"}
    check_run_folder(tmp_path / "best.run", resume=False)  # the report alone is no run in the way


def test_energy_is_what_the_counters_of_the_packages_rose_by(plain, monkeypatch, tmp_path):
    from adapterhub_lite.reporting import machine
    from adapterhub_lite.training.run.identity import energy_used

    for name, value in (("intel-rapl:0", 5_000_000), ("intel-rapl:1", 7_000_000), ("intel-rapl:0:0", 9)):  # a part of 0
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{value}\n", encoding="utf-8")
    assert energy_used(tmp_path / "none") is None
    assert energy_used(tmp_path) == 12_000_000
    record = json.loads((plain.folder / "run.json").read_text(encoding="utf-8"))
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({**record, "energy": 2_000_000}), encoding="utf-8")
    (folder / "events.log").write_text((plain.folder / "events.log").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(machine, "energy_used", lambda: 12_000_000)
    facts = machine.machine(plain.adapter.base, {}, folder)
    assert facts["energy"] == 10.0
    assert facts["whole_seconds"] > 0
    monkeypatch.setattr(machine, "energy_used", lambda: 1)  # the counter began again
    assert "energy" not in machine.machine(plain.adapter.base, {}, folder)
