"""Scores of answers, against SQuAD's by hand and the libraries', and the bare base beside the adapter."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_chrf

from adapterhub_causal_lm.answers import Judge, normalised, token_f1
from adapterhub_lite.adapter.generate import generate_texts
from adapterhub_lite.adapter.sampling import Sampling
from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError, DataError, NotSupportedError
from adapterhub_lite.scoring.metrics import bootstrap, wilson
from adapterhub_lite.testing import tiny_base
from adapterhub_lite.training.config import TrainConfig
from adapterhub_text.tiny import texts

PAIRS = [
    ("The answer is Paris.", "paris"), ("Paris", "The Paris!"), ("a cat sat on the mat", "the cat sat on a red mat"),
    ("", "nothing"), ("So 3 + 4 = 7.\n#### 7", "3 and 4 are 7 #### 7.0"), ("#### 1,200", "Thus #### 1200"),
    ("#### 5 or #### 6", "#### 6"), ("eight", "#### 8"),
]  # fmt: skip


def rows_of(engine: Engine, pairs: list[tuple[str, str]] = PAIRS) -> Dataset:
    return engine.load_data([{"prompt": "p", "completion": reference} for _, reference in pairs], "causal-lm")


@pytest.mark.parametrize(
    ("text", "plain"),
    [("The  Cat's, a Theory!", "cats theory"), ("An apple\n a day", "apple day"), ("...", ""), ("the", "")],
)
def test_texts_are_compared_as_squad_does(text: str, plain: str) -> None:
    assert normalised(text) == plain


@pytest.mark.parametrize(
    ("answer", "reference", "f1"),
    [
        ("the cat sat", "cat sat down", 4 / 5),  # 2 words in common, of 2 and 3
        ("one one two", "one two two", 4 / 6),  # each as often as both have it
        ("yes", "no", 0.0),
        ("The", "a", 1.0),  # nothing is left of either
        ("", "word", 0.0),
    ],
)
def test_f1_of_words_by_hand(answer: str, reference: str, f1: float) -> None:
    assert token_f1(answer, reference) == pytest.approx(f1)


def test_scores_are_those_of_the_libraries(engine: Engine) -> None:
    answers = [answer for answer, _ in PAIRS]
    scores = Judge(rows_of(engine), None, None)(answers)
    rouge = RougeScorer(["rougeL"])
    assert scores["rouge_l"] == [rouge.score(reference, answer)["rougeL"].fmeasure for answer, reference in PAIRS]
    assert scores["chrf"] == pytest.approx(
        [sentence_chrf(answer, [reference]).score / 100 for answer, reference in PAIRS]
    )
    assert scores["exact_match"] == [0, 1, 0, 0, 0, 0, 0, 0]
    assert scores["token_f1"] == [token_f1(answer, reference) for answer, reference in PAIRS]
    assert scores["empty"] == [0, 0, 0, 1, 0, 0, 0, 0]
    assert set(scores) == {"exact_match", "token_f1", "rouge_l", "chrf", "empty"}


def test_the_last_match_counts_and_numbers_are_numbers(engine: Engine) -> None:
    pairs = PAIRS[4:]
    scores = Judge(rows_of(engine, pairs), r"#### (-?[\d,.]*\d)", lambda answer, reference: "#" in answer)(
        [answer for answer, _ in pairs]
    )
    assert scores["extracted"] == [1, 1, 1, 0]
    assert scores["score"] == [1, 1, 1, 0]
    words = Judge(rows_of(engine, pairs), r"#+", None)([answer for answer, _ in pairs])
    assert words["extracted"] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"extract": "("}, ConfigError, r"--extract \(: is no regular expression"),
        ({"extract": "#### 7"}, DataError, r"row 1.*: its reference has no match of --extract #### 7"),
        (
            {"score": lambda answer, reference: 1 / 0},
            ConfigError,
            "row 1.*: the score function raised ZeroDivisionError",
        ),
        ({"score": lambda answer, reference: 2}, ConfigError, "row 1.*: the score function returned 2"),
        ({"score": lambda answer, reference: None}, ConfigError, "row 1.*: the score function returned None"),
    ],
)
def test_what_cannot_be_scored(options: dict[str, Any], kind: type[Exception], message: str, engine: Engine) -> None:
    with pytest.raises(kind, match=message):
        Judge(rows_of(engine), **{"extract": None, "score": None, **options})([answer for answer, _ in PAIRS])


def test_a_row_without_a_reference_is_named(engine: Engine) -> None:
    asked = {"role": "user", "content": "one"}
    told = {"role": "assistant", "content": "two"}
    chats = engine.load_data([{"messages": [asked, told]}, {"messages": [asked, told, asked]}], "causal-lm")
    with pytest.raises(DataError, match=r"row 2.*: has no answer to compare with"):
        Judge(chats, None, None)
    assert Judge(chats.select([0]), None, None).references == ["two"]
    with pytest.raises(DataError, match=r"row 1.*: has no answer to compare with"):
        Judge(engine.load_data([{"text": "one two"}], "causal-lm"), None, None)


@pytest.mark.parametrize(("library", "package"), [("rouge_score", "rouge-score"), ("sacrebleu", "sacrebleu")])
def test_a_library_that_is_not_there_is_named(
    library: str, package: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any, **options: Any) -> Any:
        if name.partition(".")[0] == library:
            raise ImportError(name)
        return real(name, *more, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ConfigError, match=rf"needs the package {package}.*pip install 'adapterhub-lite\[text-metrics\]'"
    ):
        Judge(rows_of(engine), None, None)


def test_adapter_and_bare_base_side_by_side(engine: Engine, base: Callable[..., Base]) -> None:
    loaded = base("tiny-llama")
    words = ["card", "money", "bank", "bill", "app", "rate"]
    rows = [{"prompt": f"where is my {word}", "completion": f"please pay the {word}", "who": word[0]} for word in words]
    data = engine.load_data(rows, "causal-lm", columns={"prompt": "prompt", "completion": "completion", "group": "who"})
    config = TrainConfig(steps=60, batch_size=6, learning_rate=0.01)
    adapter = engine.train(loaded, data, strategy="lora", config=config)
    result = adapter.evaluate_answers(
        data, extract=r"(\w+)$", score=lambda answer, wanted: wanted in answer, max_new_tokens=8
    )
    answers = adapter.generate(data, max_new_tokens=8)
    with adapter.disabled():
        task = adapter.attachment.task
        asked = [task.prompt_ids(item, loaded) for item in data.inputs]
        bare = generate_texts(loaded, asked, Sampling(max_new_tokens=8), ends=task.end_ids(loaded))
    assert answers != bare
    judge = Judge(data, r"(\w+)$", lambda answer, wanted: wanted in answer)
    groups = [words.index(next(w for w in words if w[0] == word[0])) for word in words]
    for prefix, replies in (("", answers), ("bare_", bare)):
        for name, values in judge(replies).items():
            assert result.metrics[prefix + name] == pytest.approx(sum(values) / 6)
            low, high = result.intervals[prefix + name]
            drawn = bootstrap(6, lambda chosen, values=values: sum(values[i] for i in chosen) / len(chosen), groups)  # type: ignore[misc]
            if set(values) <= {0.0, 1.0}:
                own = wilson(int(sum(values)), 6)
                drawn = min(own[0], drawn[0]), max(own[1], drawn[1])
            assert (low, high) == pytest.approx(drawn)
    assert result.metrics["exact_match"] >= 0.9  # what was learnt by heart is said again
    assert result.metrics["bare_exact_match"] == 0
    assert result.metrics["loss"] == pytest.approx(adapter.evaluate(data).metrics["loss"])
    assert result.metrics["bare_loss"] == pytest.approx(engine.evaluate_base(loaded, data).metrics["loss"])
    assert not any(name.startswith("bare") for name in adapter.evaluate_answers(data, bare=False).metrics)
    adapter.detach()


def test_a_classifier_has_no_answers(engine: Engine) -> None:
    adapter = engine.train(tiny_base("encoder"), texts(), config=TrainConfig(steps=1))
    with pytest.raises(NotSupportedError, match="answers are scored of tasks that continue text"):
        adapter.evaluate_answers(texts())


@pytest.fixture(scope="module")
def speaker(
    tmp_path_factory: pytest.TempPathFactory,
    engine: Engine,
    load: Callable[..., Base],
    references: Callable[[str], str],
) -> Path:
    folder = tmp_path_factory.mktemp("speaker")
    base, rows = load(references("tiny-llama")), [{"prompt": "where is my card", "completion": "it is here"}]
    adapter = engine.train(base, engine.load_data(rows, "causal-lm"), config=TrainConfig(steps=30, learning_rate=0.01))
    adapter.save(folder / "a")
    adapter.detach()
    (folder / "rows.jsonl").write_text(json.dumps(rows[0]) + "\n")
    (folder / "my_checks.py").write_text("def right(answer, wanted):\n    return answer.split() == wanted.split()\n")
    return folder


def test_evaluate_answers_on_the_command_line(run: Any, speaker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(speaker)
    given = ["evaluate", "a", "--data", "rows.jsonl", "--max-new-tokens", 8]
    outcome = run(*given, "--score", "my_checks:right", "--extract", r"\w+$", "--json")
    assert outcome.code == 0, outcome.err
    metrics, intervals = (json.loads(outcome.out)[name] for name in ("metrics", "intervals"))
    assert metrics["score"] == metrics["exact_match"] == metrics["extracted"] == metrics["rouge_l"] == 1
    assert metrics["bare_score"] == 0
    assert intervals["score"] == list(wilson(1, 1))
    assert metrics["loss"] < metrics["bare_loss"]
    shown = run(*given, "--answers")
    assert "bare base" in shown.out
    assert "chrf" in shown.out
    alone = run(*given, "--answers", "--no-bare")
    assert "bare base" not in alone.out
    plain = run(*given[:4], "--json")
    assert set(json.loads(plain.out)["metrics"]) == {"loss", "perplexity"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--score", "checks"], "write it as --score MODULE:FUNCTION"),
        (["--score", "no_such_module:f"], "--score no_such_module:f: cannot be imported (ModuleNotFoundError"),
        (["--score", "my_checks:wrong"], "cannot be imported (AttributeError"),
        (["--score", "my_checks:__name__"], "is a str, not a function"),
        (["--max-new-tokens", "4"], "give --answers as well"),
        (["--answers", "--top-p", "3"], "top_p is 3.0"),
    ],
)
def test_evaluate_refuses(
    options: list[str], message: str, run: Any, speaker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(speaker)
    outcome = run("evaluate", "a", "--data", "rows.jsonl", *options)
    assert (outcome.code, message in outcome.err) == (2, True), outcome.err
