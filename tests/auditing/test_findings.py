"""Each finding on rows whose faults are known, and on rows without."""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

import adapterhub_lite as ah
from adapterhub_lite.auditing.alike import alike, nearly
from adapterhub_lite.auditing.enough import mcnemar, smallest_difference
from adapterhub_lite.auditing.items import plain_words
from adapterhub_lite.auditing.material import side_of
from adapterhub_lite.auditing.outcome import write_text
from adapterhub_lite.auditing.personal import is_card, is_iban, seen_in
from adapterhub_lite.auditing.quick import warn
from adapterhub_lite.auditing.slices import two_shares
from adapterhub_lite.auditing.wrong_labels import suspected
from adapterhub_lite.progress import Silent
from tests.auditing.conftest import labelled
from tests.conftest import WORDS


def places(finding, side="data"):
    return {row.place for row in finding.rows if row.side == side}


def names(audit, level="alarm"):
    return {finding.name for finding in audit.findings if finding.level == level}


def test_rows_without_faults_raise_no_alarm(looked):
    audit = looked(labelled(240), eval_rows=labelled(150, seed=1))
    assert names(audit) == set()
    assert {"label errors"} == names(audit, "unknown")
    assert any("no base was given" in note for note in audit.notes)


def test_rows_to_score_on_with_labels_of_their_own_are_refused(auditing):
    data = auditing.load_data(labelled(120), "text-classification")
    own = auditing.load_data(labelled(120, kinds=2), "text-classification")
    with pytest.raises(ah.AdapterHubError, match=r"labels=data\.labels"):
        auditing.audit(data, eval_data=own)


@pytest.mark.parametrize("with_base", [False, True])
def test_a_sample_of_the_deployment_needs_no_labels(auditing, references, with_base, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path))
    base = auditing.load_base(references("tiny-bert"), device="cpu") if with_base else None
    rows, sample = labelled(120), [{"text": row["text"] + " today"} for row in labelled(60, seed=1)]
    sample[3]["text"] = rows[7]["text"]
    data = auditing.load_data(rows, "text-classification")
    audit = auditing.audit(data, eval_data=sample, base=base)
    assert 3 in places(audit["rows in both splits"], "eval-data")
    assert audit["shift"].level != "unknown"
    assert "a tenth of the data" in audit["size of the test set"].says
    with pytest.raises(ah.AdapterHubError, match="row 3"):
        auditing.audit(
            data, eval_data=[{**row, "label": None if number == 2 else "card"} for number, row in enumerate(rows)]
        )


@pytest.mark.parametrize("kind", ["one group", "equal"])
def test_rows_without_two_folds_are_audited_without_features(looked, auditing, references, kind, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path))
    rows = [{**row, "who": 1} if kind == "one group" else {**row, "text": "the same"} for row in labelled(60)]
    base = auditing.load_base(references("tiny-bert"), device="cpu")
    audit = looked(rows, base=base, columns={"group": "who"} if kind == "one group" else None)
    assert any(f"all rows are {'of one group' if kind == 'one group' else 'equal'}" in note for note in audit.notes)


def test_rows_that_come_twice_are_named_with_their_twins(looked):
    rows, held_out = labelled(240), labelled(150, seed=1)
    rows[200]["text"] = rows[7]["text"].upper() + "!"
    rows[201] = {**rows[8], "label": "rate"}
    held_out[3] = {**rows[20], "text": rows[20]["text"] + "  ."}
    held_out[4] = {**rows[21], "text": " ".join(["please", *rows[21]["text"].split()])}
    audit = looked(rows, eval_rows=held_out)
    assert places(audit["repeated rows"]) == {200, 201}
    assert {row.partner for row in audit["repeated rows"].rows} == {("data", 7), ("data", 8)}
    leak = audit["rows in both splits"]
    assert (leak.level, places(leak, "eval-data")) == ("alarm", {3, 4})
    assert "1 the same, 1 nearly" in leak.says
    assert places(audit["conflicting labels"]) == {200}


def test_minhash_finds_what_comparing_all_pairs_finds():
    words = [plain_words(row["text"]) for row in labelled(150, seed=3)]
    random = np.random.default_rng(0)
    for row in range(0, 30):
        letters = list(words[row])
        place = int(random.integers(len(letters) - 1))
        letters[place], letters[place + 1] = letters[place + 1], letters[place]
        words.append("".join(letters))

    def shingles(text):
        padded = f" {text} "
        return {padded[start : start + 3] for start in range(len(padded) - 2)}

    by_hand = {
        (one, other)
        for one, other in combinations(range(len(words)), 2)
        if words[one] != words[other] and nearly(words[one], words[other], shingles(words[one]), shingles(words[other]))
    }
    said = set(alike(words, words, "text", None))
    assert len(by_hand) >= 25
    assert len(said & by_hand) >= 0.97 * len(by_hand)
    assert said <= by_hand


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("give this novel 2 stars of 6 today please", "give this novel 5 stars of 6 today please", False),
        ("please why is top up pending", "why is top up pending", True),
        ("where is my new card from the bank", "where is my new card form the bank", True),
        (
            "can i make transactions before identity verification",
            "is there a fee on exchanging foreign currency",
            False,
        ),
    ],
)
def test_numbers_have_to_be_equal_and_letters_may_be_swapped(one, other, same):
    sets = [{f" {text} "[start : start + 3] for start in range(len(text))} for text in (one, other)]
    assert bool(nearly(one, other, *sets)) is same


def test_what_is_compared_stays_few(monkeypatch):
    from adapterhub_lite.auditing import alike as comparing

    seen = []

    def counted(one, other, *sets):
        seen.append((one, other))
        return nearly(one, other, *sets)

    monkeypatch.setattr(comparing, "nearly", counted)
    random = np.random.default_rng(0)
    long = [" ".join(random.choice(WORDS, 400)) for _ in range(60)]
    long.append(long[3].replace(" the ", " a ", 2))
    assert set(alike(long, long, "text", None)) == {(3, 60)}
    assert len(seen) < 60
    seen.clear()
    templated = [f"order {row} of customer {row * 7} was sent to the shop today" for row in range(300)]
    assert alike(templated, templated, "text", None) == {}
    assert seen == []
    crowd = [f"the order of {name} was sent to our big shop in town today" for name in map(chr, range(0x4E00, 0x4E64))]
    assert {second for _, second in alike(crowd, crowd, "text", None)} == set(range(1, 100))
    assert len(seen) == 99  # the first partner is enough


def test_features_that_all_point_one_way_are_not_the_same():
    random = np.random.default_rng(0)
    features = (random.normal(size=(80, 16)) * 0.1 + 5).astype(np.float32)
    features[70] = features[12] + 0.001
    assert set(alike([""] * 80, [""] * 80, "text", features)) == {(12, 70)}


def test_equal_rows_share_their_twin(looked):
    rows, held_out = labelled(240), labelled(150, seed=1)
    for place in (3, 4):
        held_out[place] = {**rows[20], "text": " ".join(["please", *rows[20]["text"].split()])}
    assert places(looked(rows, eval_rows=held_out)["rows in both splits"], "eval-data") == {3, 4}


def test_pictures_that_differ_in_brightness_are_twins_and_others_are_not(auditing):
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
    pictures = [np.kron(picture, np.ones((8, 8, 1))).astype(np.uint8) for picture in coarse]
    pictures.append(np.clip(pictures[5] * 0.9 + 10, 0, 255).astype(np.uint8))
    assert set(alike(pictures, [], "image", None)) == {(5, 12)}


def test_a_picture_that_is_cut_off_is_named_by_its_row(auditing):
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(whole, "png")
    pictures = (whole.getvalue(),) * 2 + (whole.getvalue()[:900],)
    data = replace(auditing.load_data(labelled(3), "text-classification"), inputs=pictures)
    with pytest.raises(ah.AdapterHubError, match="row 3: cannot be read"):
        side_of(data, "image")


def test_half_a_character_is_written(tmp_path):
    write_text(tmp_path / "rows.csv", "a\ud800b")
    assert (tmp_path / "rows.csv").read_bytes() == b"a\\ud800b"


def test_a_library_that_is_missing_is_noticed_before_features_are_computed(auditing, looked, references, monkeypatch):
    base = auditing.load_base(references("tiny-bert"), device="cpu")
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    monkeypatch.setattr("adapterhub_lite.auditing.run.side_of", None)
    with pytest.raises(ah.AdapterHubError, match="needs cleanlab"):
        looked(labelled(60), base=base)


def test_groups_on_both_sides(looked):
    rows, held_out = labelled(240), labelled(120, seed=1)
    for number, row in enumerate(held_out):
        row["who"] = "new" if number >= 6 else "Jane Doe"
    for row in rows[30:36]:
        row["who"] = "Jane Doe"
    audit = looked(rows, eval_rows=held_out, columns={"group": "who"})
    leak = audit["groups in both splits"]
    assert (leak.level, leak.count, places(leak, "eval-data")) == ("alarm", 1, {0, 1, 2, 3, 4, 5})
    assert {row.partner for row in leak.rows} == {("data", 30)}
    assert "Jane" not in str(audit) + str(audit.named())


def test_a_length_and_a_source_that_give_the_class_away(looked):
    rows = labelled(300)
    for row in rows:
        row["source"] = "clinic" if row["label"] == "money" else "lab"
        if row["label"] == "rate":
            row["text"] += " please" * 8
    audit = looked(rows, slices=["source"])
    assert "length" in audit["shortcuts"].says
    assert set(audit["shortcuts"].facts["skill"]) == {"rate"}
    assert audit["labels by source"].level == "alarm"
    assert audit["labels by source"].says.startswith("money")


def test_rare_classes_and_imbalance(looked):
    rows = [row for row in labelled(600, words=12) if row["label"] != "rate"] + labelled(300, seed=5)[2:12:3]
    audit = looked(rows)
    assert {"imbalance", "rare classes"} <= names(audit)
    assert "rate" in audit["rare classes"].says


def test_a_small_test_set_is_named_and_its_smallest_difference_is_that_of_mcnemars_test(looked):
    audit = looked(labelled(240), eval_rows=labelled(40, seed=1))
    assert audit["size of the test set"].level == "alarm"
    n, differing = 400, 0.1
    least = smallest_difference(n, differing)
    random = np.random.default_rng(0)
    shown = 0
    for _ in range(400):  # how often the test shows a difference of that size
        kind = random.choice(3, n, p=[(differing + least) / 2, (differing - least) / 2, 1 - differing])
        shown += mcnemar(kind != 1, kind != 0) < 0.05
    assert 0.72 < shown / 400 < 0.86


def test_mcnemar_and_two_shares_are_those_of_scipy_and_of_the_closed_form():
    from scipy.stats import binomtest

    first, second = np.array([True] * 9 + [False] * 2 + [True] * 5), np.array([False] * 9 + [True] * 2 + [True] * 5)
    assert mcnemar(first, second) == pytest.approx(binomtest(2, 11).pvalue)
    some, others = np.array([True] * 30 + [False] * 70), np.array([True] * 50 + [False] * 50)
    z = 0.2 / math.sqrt(0.4 * 0.6 * 0.02)
    assert two_shares(some, others) == pytest.approx(math.erfc(z / math.sqrt(2)))


def test_of_rows_that_are_contradicted_the_least_believed_are_named_and_hard_ones_stay():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 200)
    sure = np.full((600, 3), 0.01)
    sure[np.arange(600), labels] = 0.98
    hard = random.choice(600, 40, replace=False)
    sure[hard, labels[hard]], sure[hard, (labels[hard] + 1) % 3] = 0.40, 0.59
    wrong = random.choice(np.setdiff1d(np.arange(600), hard), 30, replace=False)
    labels[wrong] = (labels[wrong] + 1) % 3
    named = suspected(labels, sure.astype(np.float32), np.arange(3))
    assert set(wrong.tolist()) <= set(named[:30].tolist())
    assert len(set(named.tolist()) - set(wrong.tolist())) <= 40


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to jane.doe@mail.acme.org soon", "e-mail address"),
        ("write to jane@example.com soon", None),
        ("card 4111 1111 1111 1111 please", "card number"),
        ("card 4111 1111 1111 1112 please", None),
        ("call (415) 555-2671 now", "phone number"),
        ("call +49 30 1234567 now", "phone number"),
        ("version 1.2.3 of 2024-01-15 costs 1234567", None),
        ("pay to DE89 3704 0044 0532 0130 00 now", "IBAN"),
        ("pay to DE88 3704 0044 0532 0130 00 now", None),
        ("my number is 123-45-6789.", "social security number"),
    ],
)
def test_personal_data_is_known_by_its_check_digits_and_never_shown(text, kind):
    seen = list(seen_in(text))
    assert [name for name, _ in seen] == ([] if kind is None else [kind])
    for _, shown in seen:
        assert len([character for character in shown if character.isalnum()]) <= 2


def test_check_digits():
    assert [number for number in range(10) if is_card(f"411111111111111{number}")] == [1]
    assert is_iban("GB82WEST12345698765432")
    assert not is_iban("GB83WEST12345698765432")


def test_personal_data_of_a_file_is_counted_by_kind(looked):
    rows = labelled(120)
    rows[5]["text"] += " mail to jane.doe@mail.acme.org"
    audit = looked(rows)
    assert audit["personal data"].facts == {"e-mail address": 1}
    assert "jane.doe" not in str(audit) + str(audit.named())


def chats(n=200):
    verbs, things = ["name", "describe", "sort", "explain"], ["the sea", "a tree", "an engine", "our moon", "old bread"]
    return [
        {
            "prompt": f"{verbs[row % 4]} {things[row % 5]} in {row} words for me",
            "completion": f"Here is what {things[row % 5]} is about, number {row * 7919 % 1009}: it is {verbs[row % 3]}d.",
        }
        for row in range(n)
    ]


def look_at_chats(auditing, rows):
    return auditing.audit(auditing.load_data(rows, "causal-lm"))


def test_faults_of_chats_are_named_and_sound_ones_are_not(auditing):
    assert names(look_at_chats(auditing, chats())) == set()
    rows = chats()
    rows[3]["completion"] = "I'm sorry, but I can't help with that."
    rows[4]["completion"] = "As an AI language model I have no opinion on it."
    rows[5]["completion"] += "<|im_end|>"
    rows[6]["completion"] = "### Response: it is a tree."
    rows[7]["prompt"] += " Answer: " + rows[7]["completion"]
    rows[8]["completion"] = ("a long answer that goes on " * 12) + "and sto"
    for row in range(20, 40):
        rows[row]["completion"] = "This is the same answer to everything."
    audit = look_at_chats(auditing, rows)
    assert places(audit["refused answers"]) == {3, 4}
    assert places(audit["marks of a template"]) == {5, 6}
    assert places(audit["answers in the prompt"]) == {7}
    assert places(audit["cut-off answers"]) == {8}
    assert places(audit["repeated answers"]) == set(range(20, 40))


def test_a_repaired_file_is_the_data_without_the_rows_that_the_log_names(looked, auditing, tmp_path):
    source = tmp_path / "rows.csv"
    rows = labelled(120)
    rows[100] = dict(rows[7])
    with source.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label", "who"])
        writer.writeheader()
        writer.writerows(rows)
    before = source.read_bytes()
    audit = auditing.audit(auditing.load_data(source, "text-classification"))
    assert audit.fix(tmp_path / "fixed.csv") == 1
    with (tmp_path / "fixed.csv").open(encoding="utf-8", newline="") as file:
        kept = list(csv.DictReader(file))
    assert [row["text"] for row in kept] == [row["text"] for number, row in enumerate(rows) if number != 100]
    with (tmp_path / "fixed.csv.log.csv").open(encoding="utf-8", newline="") as file:
        assert [(row["row"], row["finding"]) for row in csv.DictReader(file)] == [("101", "repeated rows")]
    assert source.read_bytes() == before
    with pytest.raises(ah.AdapterHubError, match="is the data itself"):
        audit.fix(source)


class Said(list):
    def say(self, line):
        self.append(line)


def with_inputs(data, inputs):
    return replace(data, inputs=inputs, targets=(0, 1) * (len(inputs) // 2), table=None, groups=None)


def test_what_fails_in_the_quick_look_ends_no_training(auditing, monkeypatch):
    said, data = Said(), auditing.load_data(labelled(200), "text-classification")
    held_out = with_inputs(data, ("a", "b"))
    monkeypatch.setattr("adapterhub_lite.auditing.quick.side_of", lambda *a, **k: 1 / 0)
    warn(data, held_out, "text", said)
    assert said == []

    def stopped(*a, **k):
        raise KeyboardInterrupt

    monkeypatch.setattr("adapterhub_lite.auditing.quick.side_of", stopped)
    warn(data, held_out, "text", Silent())  # nothing is looked at where nothing can be said
    warn(with_inputs(data, (b"no picture",) * 200), None, "image", said)  # nor is a picture decoded
    with pytest.raises(KeyboardInterrupt):
        warn(data, held_out, "text", said)


def test_rows_that_take_long_to_read_are_few(auditing, monkeypatch):
    read = []

    def slow(data, *a, **k):
        read.append(len(data))
        time.sleep(0.05 * len(data))
        return side_of(data, *a, **k)

    monkeypatch.setattr("adapterhub_lite.auditing.quick.side_of", slow)
    warn(auditing.load_data(labelled(200), "text-classification"), None, "text", Said())
    assert sum(read) < 20


def test_a_class_is_not_rare_because_few_rows_were_read(auditing, monkeypatch):
    monkeypatch.setattr("adapterhub_lite.auditing.quick.ROWS", 100)
    said, rows = Said(), labelled(900)
    for number, row in enumerate(rows):
        row["label"] = f"class {number % 30}"
    warn(auditing.load_data(rows, "text-classification"), None, "text", said)
    assert said == []


def test_training_warns_in_three_lines_at_most():
    engine, said = ah.Engine(progress=False), Said()
    rows = [*labelled(150), *[{**row, "label": "rate"} for row in labelled(150)]]
    for row in rows[:20]:
        row["text"] += " jane.doe@mail.acme.org"
    rows += [{"text": f"number {row}", "label": "odd", "who": 0} for row in range(3)]
    data = engine.load_data(rows, "text-classification")
    warn(data, engine.load_data(rows[:50], "text-classification", labels=data.labels), "text", said)
    assert len(said) == 3
    assert all(line.startswith("warning: ") for line in said)
    assert said[-1].endswith("`adapterhub-lite audit` names the rows")
    said.clear()
    warn(engine.load_data(labelled(200), "text-classification"), None, "text", said)
    assert said == []
