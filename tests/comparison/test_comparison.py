"""A comparison as a whole: who wins, what is saved, what is known the second time, and what goes wrong."""

from __future__ import annotations

import json

import pytest
import torch

import adapterhub_lite as ah
from adapterhub_lite.comparison import baselines, contest, counted_words, folds
from adapterhub_lite.comparison.engine import Engine
from adapterhub_lite.data.splits import split
from adapterhub_lite.errors import (
    ConfigError,
    DataError,
    NotSupportedError,
    PluginError,
    StrategyNotFoundError,
    TrainingError,
)
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.progress import Silent
from tests.comparison.conftest import labelled

TASK = "text-classification"
QUICK = ah.TrainConfig(steps=4, learning_rate=5e-3, batch_size=8, start_head="random")
TF_IDF = "TF-IDF + logistic regression"
PROBE = {"strategies": ["linear_probe"], "settings": {"linear_probe.penalty": 0.01}}
PROBE_AND_LORA = {"strategies": ["linear_probe", "lora"], "settings": PROBE["settings"], "config": QUICK}


class Counting(Silent):
    """Remembers what is said."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)
        super().say(line)


@pytest.fixture
def trainings(monkeypatch):
    """The strategies that are trained, one after the other."""
    trained = []
    original = ah.Engine.train_checked

    def train_checked(self, base, data, held_out, run, *given, **named):
        trained.append(run.strategy.spec.name)
        return original(self, base, data, held_out, run, *given, **named)

    monkeypatch.setattr("adapterhub_lite.engine.Engine.train_checked", train_checked)
    return trained


@pytest.fixture
def texts(comparing):
    return comparing.load_data(labelled(40), TASK)


def test_scores_are_those_of_training_by_hand_on_the_same_rows(comparing, base, texts, own_cache):
    encoder = base("tiny-bert")
    compared = comparing.compare(encoder, texts, **PROBE_AND_LORA, hold_out=0.3)
    learn, held_out = split(texts, 0.3, seed=0)
    assert (compared.learnt_from, compared.held_out) == (len(learn), len(held_out))
    for name, config, settings in (("linear_probe", None, {"penalty": 0.01}), ("lora", QUICK, {})):
        by_hand = comparing.train(
            encoder, learn, strategy=name, settings=settings, eval_data=held_out, config=config
        )  # fmt: skip
        assert compared[name].score == by_hand.metrics["accuracy"]
        assert compared[name].interval == (by_hand.metrics["accuracy_low"], by_hand.metrics["accuracy_high"])
        assert compared[name].trained == by_hand.trainable
        by_hand.detach()
    commonest = max(held_out.targets.count(label) for label in range(3)) / len(held_out)
    assert compared["most frequent"].score <= commonest
    assert {row.name for row in compared.rows} == {"most frequent", TF_IDF, "linear_probe", "lora"}
    assert compared.adapter.metrics["accuracy"] == compared[compared.best_adapter].score
    encoder.activate(None)


def test_the_winner_is_chosen_by_rows_that_do_not_score_it(comparing, base, texts, own_cache, monkeypatch):
    held_out = comparing.load_data(labelled(30, seed=9), TASK, labels=texts.labels)
    fitted = []
    original = contest.Workshop.result

    def result(self, contender, learn, score, share=1.0, *, saved=False):
        fitted.append((contender.name, {*learn.inputs}, score.inputs, share))
        return original(self, contender, learn, score, share, saved=saved)

    monkeypatch.setattr(contest.Workshop, "result", result)
    compared = comparing.compare(base("tiny-bert"), texts, **PROBE, eval_data=held_out)
    probes = [(learn, score) for name, learn, score, _ in fitted if name == "linear_probe"]
    assert [score is held_out.inputs for _, score in probes] == [False] * 4 + [True]
    assert sorted(text for _, score in probes[:4] for text in score) == sorted(texts.inputs)
    assert not any(learn & {*score} for learn, score in probes[:4])
    assert compared.chosen_on == "by 40 of them, held out in 4 parts"
    assert not any("optimistic" in note for note in compared.notes)


def test_choosing_by_the_rows_that_score_is_offered_and_said_to_be_optimistic(
    comparing, base, texts, own_cache, trainings
):
    compared = comparing.compare(base("tiny-bert"), texts, **PROBE, choose_on="held-out")
    assert trainings == ["linear_probe"]
    assert compared["linear_probe"].choosing_score == compared["linear_probe"].score
    assert any("optimistic" in note for note in compared.notes)
    with pytest.raises(ConfigError, match=r"validation, held-out"):
        comparing.compare(base("tiny-bert"), texts, choose_on="test")


def test_a_baseline_that_is_as_good_is_said_aloud_and_the_best_adapter_saved(comparing, base, own_cache, tmp_path):
    # Two words decide, which is all that counting words sees, and which any base blurs.
    rows = [{"text": "good money" if row % 2 else "bad money", "label": "yn"[row % 2]} for row in range(40)]
    data = comparing.load_data(rows, TASK)
    compared = comparing.compare(base("tiny-bert"), data, **PROBE, out=tmp_path / "best")
    assert compared[TF_IDF].tied
    assert compared.winner == TF_IDF
    assert compared.best_adapter == "linear_probe"
    assert any("IS AS GOOD: the base adds nothing" in note for note in compared.notes)
    saved = comparing.load_adapter(tmp_path / "best", base=base("tiny-bert"))
    assert saved.attachment.provided.spec.name == "linear_probe"
    assert saved.training["comparison"]["winner"] == TF_IDF
    assert any("IS AS GOOD" in note for note in saved.training["comparison"]["notes"])
    assert saved.metrics["accuracy"] == compared["linear_probe"].score
    saved.detach()


def test_a_tie_goes_to_the_cheapest_and_a_clear_difference_to_the_best(comparing, base, own_cache, texts, monkeypatch):
    def say(wrong):
        """A baseline that knows every answer but those of some rows."""

        def fit(problem):
            said = torch.nn.functional.one_hot(problem.task.targets(problem.score.examples), 3).float()
            said[:wrong] = said[:wrong].roll(1, dims=1)
            return said, 10 + wrong

        return fit

    monkeypatch.setattr(baselines, "commonest", say(0))
    monkeypatch.setattr(counted_words, "counted_words", say(1))
    compared = comparing.compare(base("tiny-bert"), texts, **PROBE, hold_out=0.2)
    assert compared[TF_IDF].tied  # 4 of 32 rows are chance
    assert compared.winner == "most frequent"
    monkeypatch.setattr(baselines, "commonest", say(4))
    other = comparing.load_data(labelled(41), TASK)
    compared = comparing.compare(base("tiny-bert"), other, **PROBE, hold_out=0.2)
    assert not compared["most frequent"].tied  # 12 of 33 more are not
    assert compared.winner == TF_IDF


def test_the_second_time_nothing_is_trained_and_all_is_the_same(comparing, base, texts, own_cache, trainings, tmp_path):
    encoder = base("tiny-bert")
    given = PROBE_AND_LORA
    first = comparing.compare(encoder, texts, out=tmp_path / "first", **given)
    assert trainings.count("lora") == 5
    trainings.clear()
    second = ah.Engine(progress=Silent()).compare(encoder, texts, out=tmp_path / "second", **given)
    assert trainings == []
    assert all(row.known for row in second.rows)
    told = [
        [{name: value for name, value in row.items() if name != "known"} for row in compared.record()["contenders"]]
        for compared in (first, second)
    ]
    assert told[0] == told[1]
    tensors = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("first", "second")]
    assert tensors[0] == tensors[1]


@pytest.mark.parametrize("change", ["rows", "config", "settings", "labels"])
def test_what_is_kept_is_for_the_same_rows_and_options_alone(comparing, base, texts, own_cache, trainings, change):
    encoder = base("tiny-bert")
    given = {"strategies": ["lora"], "config": QUICK, "baselines": False, "choose_on": "held-out"}
    comparing.compare(encoder, texts, **given)
    trainings.clear()
    rows = labelled(40)
    if change == "rows":
        rows[7] = {**rows[7], "text": "another text"}
    elif change == "labels":
        rows[7] = {**rows[7], "label": rows[8]["label"]}
    elif change == "config":
        given["config"] = QUICK.model_copy(update={"seed": 1})
    else:
        given["settings"] = {"lora.rank": 2}
    comparing.compare(encoder, comparing.load_data(rows, TASK), **given)
    assert trainings == ["lora"]


def test_one_that_is_killed_goes_on_where_it_was(comparing, base, texts, own_cache, trainings, monkeypatch):
    encoder = base("tiny-bert")
    given = PROBE_AND_LORA
    before = contest.Workshop._fitted

    def killed(self, *given):
        if trainings.count("lora") == 2:
            raise KeyboardInterrupt
        return before(self, *given)

    monkeypatch.setattr(contest.Workshop, "_fitted", killed)
    with pytest.raises(KeyboardInterrupt):
        comparing.compare(encoder, texts, **given)
    assert encoder.row_features is None
    assert not list(own_cache.glob("*.tmp"))
    monkeypatch.setattr(contest.Workshop, "_fitted", before)
    done = len(trainings)
    compared = comparing.compare(encoder, texts, **given)
    assert trainings.count("lora") == 5
    assert trainings[done:].count("linear_probe") == 1
    assert compared.winner


def test_a_damaged_entry_is_made_again(comparing, base, texts, own_cache, trainings):
    given = {**PROBE, "baselines": False}
    first = comparing.compare(base("tiny-bert"), texts, **given)
    for number, file in enumerate(sorted(own_cache.iterdir())):
        content = bytearray(file.read_bytes())
        content[len(content) // 2 + number] ^= 1
        file.write_bytes(bytes(content[: len(content) - (number % 2)]))
    trainings.clear()
    second = comparing.compare(base("tiny-bert"), texts, **given)
    assert trainings
    assert second["linear_probe"].score == first["linear_probe"].score


def test_those_clearly_worse_with_a_few_steps_go_no_further(comparing, base, own_cache, trainings):
    data = comparing.load_data(labelled(80, kinds=2), TASK)
    plugins, progress = comparing.plugins, Counting()
    compared = Engine(plugins, progress).compare(
        base("tiny-bert"), data, strategies=["lora", "prefix"], baselines=False, hold_out=0.2,
        config=ah.TrainConfig(epochs=6, start_head="random"),
    )  # fmt: skip
    tried = [line for line in progress.lines if "with 25% of its steps" in line]
    assert len(tried) == 6  # each at three rates
    out = [row for row in compared.rows if row.out is not None]
    assert out
    assert all("25% of the steps" in row.out or "another setting" in row.out for row in out)
    full = [row for row in compared.rows if row.out is None]
    assert {row.strategy for row in full} == {row.strategy for row in compared.rows if row.out is None}
    assert compared.steps < 0.8 * compared.steps_of_all
    assert str(compared.steps) in str(compared)


def test_a_strategy_that_fails_is_named_and_the_rest_goes_on(base, texts, own_cache):
    from adapterhub_lite.api import StrategyConfig, StrategySpec, Traits, hookimpl

    class Broken:
        def attach(self, view, config):
            raise RuntimeError("no such luck")

    class Plugin:
        @staticmethod
        @hookimpl
        def adapterhub_strategies():
            return [StrategySpec("broken", "Fails.", StrategyConfig, lambda: Broken(), Traits())]

    plugins = Plugins()
    plugins.register(Plugin)
    engine = Engine(plugins, Silent())
    compared = engine.compare(base("tiny-bert"), texts, strategies=["broken", "linear_probe"])
    assert compared["broken"].failed
    assert "no such luck" in compared["broken"].out
    assert any("broken failed" in note for note in compared.notes)
    assert compared.best_adapter == "linear_probe"
    with pytest.raises(PluginError, match="no such luck"):
        engine.compare(base("tiny-bert"), texts, strategies=["broken"])


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"strategies": ["lorra"]}, StrategyNotFoundError, r"no strategy 'lorra' \(did you mean 'lora'\?\)"),
        ({"strategies": ["lora"], "settings": {"rank": 4}}, ConfigError, r"--set lora.rank=4"),
        ({"strategies": ["lora"], "settings": {"lora.rnk": 4}}, ConfigError, r"no option 'rnk'"),
        ({"config": ah.TrainConfig(eval_every=3)}, ConfigError, r"--eval-every does not go with a comparison"),
        ({"hold_out": 0.2, "eval_data": []}, ConfigError, r"give one of them"),
        ({"hold_out": 2.0}, ConfigError, r"no share of the rows"),
        ({"hold_out": 0, "choose_on": "held-out"}, ConfigError, r"takes some"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(
    comparing, base, texts, trainings, given, error, said
):
    with pytest.raises(error, match=said):
        comparing.compare(base("tiny-bert"), texts, **given)
    assert trainings == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (labelled(2, kinds=2), r"nothing can be held out"),
        (labelled(4, kinds=2), r"has 3 rows to learn from.*it takes 8"),
        (labelled(8), r"it takes 8"),
    ],
)
def test_too_little_data_is_refused_with_how_much_it_takes(comparing, base, rows, said):
    with pytest.raises(DataError, match=said):
        comparing.compare(base("tiny-bert"), comparing.load_data(rows, TASK))


def test_ten_rows_and_classes_with_one_row_are_compared_all_the_same(comparing, base, own_cache):
    rows = [*labelled(9, kinds=2), {"text": "rate", "label": "alone"}]
    compared = comparing.compare(base("tiny-bert"), comparing.load_data(rows, TASK), **PROBE)
    assert all(row.tied for row in compared.rows if row.out is None)


def test_groups_stay_together_in_every_part(comparing):
    data = comparing.load_data(labelled(60), TASK, columns={"text": "text", "label": "label", "group": "who"})
    for learn, score in folds.turns(data, 0):
        assert not {*learn.groups} & {*score.groups}
        assert len(learn) + len(score) == len(data)
    two = data.select([row for row in range(60) if data.groups[row] in (0, 1)])
    assert len(folds.turns(two, 0)) == 2
    one = data.select([row for row in range(60) if data.groups[row] == 0] * 2)
    with pytest.raises(DataError, match="all rows are in one group"):
        folds.turns(one, 0)


def test_many_rows_are_chosen_by_one_part(comparing):
    data = comparing.load_data(labelled(folds.FEW), TASK)
    ((learn, score),) = folds.turns(data, 0)
    assert (len(learn), len(score)) == (225, 75)
    assert len(folds.turns(data.select(range(folds.FEW - 1)), 0)) == 4


def test_a_base_for_something_else_is_refused(comparing, base, texts):
    with pytest.raises(NotSupportedError, match="takes images"):
        comparing.compare(base("tiny-vit"), texts)


def test_without_scikit_learn_its_baselines_are_left_out_and_the_extra_named(
    comparing, base, texts, own_cache, monkeypatch
):
    monkeypatch.setattr(baselines, "find_spec", lambda name: None)
    compared = comparing.compare(base("tiny-bert"), texts, **PROBE)
    assert "adapterhub-lite[sklearn]" in compared[TF_IDF].out
    assert any("adapterhub-lite[sklearn]" in note for note in compared.notes)
    assert compared["most frequent"].score is not None


def test_full_is_left_out_where_memory_does_not_do(comparing, base, texts, own_cache, monkeypatch):
    monkeypatch.setattr("adapterhub_lite.comparison.contenders.BYTES_A_WEIGHT", 10**9)
    compared = comparing.compare(base("tiny-bert"), texts, config=QUICK, choose_on="held-out")
    assert "are free" in compared["full"].out


def test_what_would_take_too_long_is_left_out(comparing, base, texts, own_cache):
    with pytest.raises(TrainingError, match="no strategy took part"):
        comparing.compare(base("tiny-bert"), texts, strategies=["lora"], config=ah.TrainConfig(epochs=1), minutes=1e-6)


def test_train_auto_gives_the_best_adapter_of_all_rows(comparing, base, texts, own_cache):
    adapter = comparing.train(base("tiny-bert"), texts, strategy="auto", config=QUICK)
    told = adapter.training["comparison"]
    assert told["best_adapter"].split(",")[0] == adapter.attachment.provided.spec.name
    assert (told["learnt_from"], told["held_out"]) == (40, 0)
    assert any("hold rows out" in note for note in told["notes"])
    assert adapter.data.rows == 40
    with pytest.raises(ConfigError, match="callbacks goes with one strategy"):
        comparing.train(base("tiny-bert"), texts, strategy="auto", callbacks=[object()])
    adapter.detach()


def test_numbers_are_compared_by_their_error(comparing, base, own_cache):
    value = {"card": 1.0, "money": 4.0, "rate": -2.0}
    rows = [{"text": row["text"], "target": value[row["label"]] + 0.01 * n} for n, row in enumerate(labelled(60))]
    data = comparing.load_data(rows, "text-regression")
    compared = comparing.compare(base("tiny-bert"), data, **PROBE)
    assert (compared.metric, compared.higher_is_better) == ("rmse", False)
    learn, held_out = split(data, 0.2, seed=0)
    mean = sum(learn.targets) / len(learn)
    rmse = (sum((target - mean) ** 2 for target in held_out.targets) / len(held_out)) ** 0.5
    assert compared["mean"].score == pytest.approx(rmse, rel=1e-5)
    assert compared["mean"].difference > 0
    assert compared["mean"].apart
    assert compared.rows[0].score == min(row.score for row in compared.rows)


def test_tags_of_words_are_compared(comparing, base, own_cache):
    rows = [
        {"tokens": row["text"].split(), "tags": ["B-X" if word == "card" else "O" for word in row["text"].split()]}
        for row in labelled(48)
    ]
    data = comparing.load_data(rows, "token-classification")
    compared = comparing.compare(base("tiny-bert"), data, **PROBE)
    assert compared.metric == "f1"
    assert compared["most frequent"].score == 0.0
    assert compared.best_adapter == "linear_probe"


def test_a_language_model_is_compared_with_its_bare_base(comparing, base, own_cache):
    rows = [
        {"prompt": f"where is my {word}", "completion": "still pending"}
        for word in ["card", "bill", "money", "app"] * 8
    ]
    data = comparing.load_data(rows, "causal-lm")
    llama = base("tiny-llama")
    compared = comparing.compare(
        llama, data, strategies=["prefix", "lora"], config=ah.TrainConfig(epochs=4, learning_rate=1e-2)
    )
    learn, held_out = split(data, 0.2, seed=0)
    llama.activate(None)
    assert compared["bare base"].score == pytest.approx(comparing.evaluate_base(llama, held_out).metrics["loss"])
    assert compared.metric == "loss"
    assert compared[compared.best_adapter].score < compared["bare base"].score
    assert len(learn) == compared.learnt_from


def test_it_prints_a_table_and_gives_a_frame_and_json(comparing, base, texts, own_cache):
    compared = comparing.compare(base("tiny-bert"), texts, **PROBE)
    shown = str(compared)
    assert {"held-out", "accuracy", "winner"} <= {*shown.split()}
    assert "learnt from 32 rows" in shown
    assert max(map(len, str(compared).split("learnt from")[0].splitlines())) <= 80
    frame = compared.to_pandas()
    assert list(frame.index) == [row.name for row in compared.rows]
    assert frame.loc["linear_probe", "score"] == compared["linear_probe"].score
    assert json.loads(json.dumps(compared.record(), allow_nan=False))["winner"] == compared.winner


def test_the_function_of_the_package_compares(monkeypatch):
    import adapterhub_lite.comparison.run

    assert callable(ah.compare)
    assert ah.compare.__self__ is ah.train.__self__
    assert adapterhub_lite.comparison.run.compare is not ah.compare
