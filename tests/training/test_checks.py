"""What does not go together is refused once, in the same words from Python and on the command line, without a base."""

from __future__ import annotations

import types

import pytest

import adapterhub_lite as ah
from adapterhub_lite.cli.run_file import read_run
from adapterhub_lite.cli.train import run_training
from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lora import LoraConfig

ROWS = {"text": ["good", "bad", "fine", "awful"], "label": ["a", "b", "a", "b"]}
MISTAKES = {
    "unknown strategy": ({"strategy": "lorra"}, ["--strategy", "lorra"]),
    "unknown option": ({"settings": {"rnak": 8}}, ["--set", "rnak=8"]),
    "option out of range": ({"settings": {"rank": 0}}, ["--set", "rank=0"]),
    "unknown option of the task": ({"task_options": {"poling": "cls"}}, ["--task-set", "poling=cls"]),
    "task option out of range": ({"task_options": {"max_length": 1}}, ["--max-length", "1"]),
    "nothing to score on": (
        {"config": {"eval_every": 2}, "hold_out": 0},
        ["--eval-every", "2", "--hold-out", "0"],
    ),
    "patience without evaluations": ({"config": {"patience": 2}}, ["--patience", "2"]),
    "one process alone": ({"config": {"shard": True}}, ["--shard"]),
    "full on a quantized base": ({"strategy": "full", "base": "nf4"}, ["--strategy", "full", "--quantize", "nf4"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_both_faces_refuse_in_the_same_words(mistake, engine, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.csv").write_text(
        "text,label\n" + "".join(f"{t},{c}\n" for t, c in zip(*ROWS.values(), strict=True))
    )
    given, words = MISTAKES[mistake]
    base = types.SimpleNamespace(quantization=given.get("base", "none"))  # no more of a base is looked at
    arguments = {name: value for name, value in given.items() if name not in ("base", "config")}
    with pytest.raises(AdapterHubError) as refused:
        engine.train(
            base, ah.load_data(ROWS, "text-classification"), config=TrainConfig(**given.get("config", {})), **arguments
        )
    needed = ["--base", "./nowhere", "--data", "good.csv", "--task", "text-classification", "--out", "out"]
    outcome = run("train", *needed, *words)
    assert outcome.err == f"error: {refused.value}\n"
    assert outcome.code == refused.value.exit_code


def test_what_excludes_each_other_in_a_run_file_is_refused_as_it_is_read(run):
    needed = ["--base", "b", "--data", "d", "--task", "text-classification", "--out", "out"]
    for words, said in (
        (["--hold-out", "0.2", "--eval-data", "e"], "--hold-out scores on a part of --data"),
        (["--shots", "2", "--fraction", "0.5"], "--shots and --fraction both choose"),
        (["--from-scratch"], "strategy 'lora' does not; use --strategy full"),
    ):
        outcome = run("train", *needed, *words)
        assert outcome.code != 0
        assert said in outcome.err


def test_a_run_is_checked_once(references, tmp_path, monkeypatch):
    seen: list[str] = []
    check, validate = TrainConfig.check, LoraConfig.model_validate

    def counted_check(self: TrainConfig, *, held_out: bool) -> None:
        seen.append("training")
        check(self, held_out=held_out)

    def counted_validation(settings: object) -> LoraConfig:
        seen.append("settings")
        return validate(settings)

    monkeypatch.setattr(TrainConfig, "check", counted_check)
    monkeypatch.setattr(LoraConfig, "model_validate", counted_validation)
    (tmp_path / "rows.csv").write_text("text,label\n" + "the cat,a\nthe dog,b\n" * 4)
    report = run_training(
        read_run(
            None,
            {
                "base": references("tiny-bert"), "data": str(tmp_path / "rows.csv"), "task": "text-classification",
                "out": str(tmp_path / "out"), "dtype": "float32", "device": "cpu",
                "training": {"steps": 1, "batch_size": 4},
            },
        )
    )  # fmt: skip
    assert report["rows"] == 8
    assert seen == ["settings", "training"]
