"""The cache of features: what it is keyed on, how much it holds, what is not taken from it, and what never gets there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib import metadata

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from adapterhub_lite.cache import LIMIT, cache_limit, keep_below
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError, TrainingError
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training import features as store
from adapterhub_lite.training.features import encode_features
from adapterhub_text.classification import TextClassification
from adapterhub_text.tiny import texts
from tests.listening import Listening


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of the features, in a cache of its own."""
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path))
    monkeypatch.delenv("ADAPTERHUB_CACHE_LIMIT", raising=False)
    return tmp_path / "features"


@pytest.fixture
def encode(monkeypatch):
    """Encode the first rows of a tiny problem: the features, what was said, and whether the base was run for them."""
    base, data = tiny_base("encoder"), texts()
    task = Engine(progress=Silent()).task_for(base, data)
    examples, features, runs = task.encode(data, base).examples, TextClassification.features, []

    def counted(self, base, batch):
        runs.append(1)
        return features(self, base, batch)

    monkeypatch.setattr(TextClassification, "features", counted)

    def encode(rows=16, **options):
        runs.clear()
        listening = Listening()
        encoded = store.encode_features(base, task, store.Encoded(examples[:rows]), listening, **options)
        return encoded, listening.lines, bool(runs)

    return encode


def names(folder):
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def same(one, other):
    return torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


# The key.


def test_features_are_found_again(encode, folder):
    first, said, ran = encode()
    assert ran
    assert not said
    again, said, ran = encode()
    assert same(first, again)
    assert said == ["features of 16 examples found in the cache"]
    assert not ran


@pytest.mark.parametrize("changed", ["adapterhub-lite", "torch", "transformers"])
def test_other_versions_have_features_of_their_own(changed, encode, folder, monkeypatch):
    encode()
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "99" if name == changed else version(name))
    assert encode()[2]
    assert len(names(folder)) == 2


# How much it holds.


@pytest.mark.parametrize(
    ("given", "size"),
    [("", LIMIT), ("0", 0), ("12345", 12345), ("10GB", 10**10), ("500MB", 5 * 10**8), ("1.5 gb", 15 * 10**8),
     ("2GiB", 2 << 30), ("7k", 7000), ("1T", 10**12), ("10B", 10)],
)  # fmt: skip
def test_the_limit_is_a_number_or_a_size(given, size, monkeypatch):
    monkeypatch.setenv("ADAPTERHUB_CACHE_LIMIT", given)
    assert cache_limit() == size


@pytest.mark.parametrize("given", ["-1", "much", "10XB", "1e9", "GB", "i", "10ib", "1,5GB", "٣GB", "10GB 5"])
def test_what_is_no_limit_is_refused_by_name(given, encode, folder, monkeypatch):
    monkeypatch.setenv("ADAPTERHUB_CACHE_LIMIT", given)
    with pytest.raises(ConfigError, match=rf"ADAPTERHUB_CACHE_LIMIT is '{given}'.*10GB"):
        encode()
    assert not encode(keep=False)[1]


def test_the_least_recently_used_go_first(encode, folder, monkeypatch):
    entries = []
    for rows in (5, 6, 7):
        encode(rows)
        entries += names(folder) - set(entries)
    for age, name in zip((30, 20, 10), entries, strict=True):
        os.utime(folder / name, (time.time() - age,) * 2)
    assert not encode(5)[2]  # the oldest is used, and is the newest now
    time.sleep(0.05)  # times of files are told apart by some milliseconds
    held = sum((folder / name).stat().st_size for name in (entries[0], entries[2]))
    monkeypatch.setenv("ADAPTERHUB_CACHE_LIMIT", str(held))
    assert not encode(7)[2]
    assert names(folder) == {entries[0], entries[2]}
    time.sleep(0.05)
    encode(4)  # smaller than the 5 that go for it
    assert len(names(folder)) == 2
    assert entries[2] in names(folder)
    assert entries[0] not in names(folder)


def test_what_is_larger_than_the_limit_is_not_kept_and_removes_nothing(encode, folder, monkeypatch):
    encode(2)
    (small,) = names(folder)
    monkeypatch.setenv("ADAPTERHUB_CACHE_LIMIT", str((folder / small).stat().st_size + 100))
    assert encode(16)[2]
    assert names(folder) == {small}


def test_a_limit_of_nothing_keeps_nothing(encode, folder, monkeypatch):
    encode()
    monkeypatch.setenv("ADAPTERHUB_CACHE_LIMIT", "0")
    assert not encode()[2], "what is there is read a last time"
    assert not names(folder)
    assert encode()[2]
    assert not names(folder)


def test_unfinished_files_go_after_a_day(encode, folder):
    encode()
    (entry,) = names(folder)
    for name, hours in (("tmpa.tmp", 25), ("tmpb.tmp", 1), (".tmpXy9", 25), (".tmpXy8", 1)):
        (folder / name).write_bytes(b"unfinished")
        os.utime(folder / name, (time.time() - 3600 * hours,) * 2)
    encode(3)
    assert names(folder) >= {entry, "tmpb.tmp", ".tmpXy8"}
    assert not names(folder) & {"tmpa.tmp", ".tmpXy9"}


def test_files_that_another_process_deletes_meanwhile_are_no_error(folder, monkeypatch):
    folder.mkdir()
    for age in range(6):
        (folder / f"{age}.safetensors").write_bytes(bytes(100))
        os.utime(folder / f"{age}.safetensors", (time.time() - 100 - age,) * 2)
    stat, unlink = type(folder).stat, type(folder).unlink

    def gone_before_stat(path, **options):
        if path.name == "0.safetensors":
            path.unlink(missing_ok=True)
        return stat(path, **options)

    def gone_before_unlink(path, missing_ok=False):
        unlink(path, missing_ok=True)
        unlink(path, missing_ok)

    monkeypatch.setattr(type(folder), "stat", gone_before_stat)
    monkeypatch.setattr(type(folder), "unlink", gone_before_unlink)
    keep_below(folder, 300)
    keep_below(folder / "nowhere", 300)
    monkeypatch.undo()
    assert names(folder) == {"1.safetensors", "2.safetensors", "3.safetensors"}


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), store.SafetensorError("I/O error: os error 28")]
)
def test_a_full_disk_costs_nothing_but_time(error, encode, folder, monkeypatch):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(store, "save_file", full)
    first, said, _ = encode()
    assert not said
    assert not names(folder)
    assert same(first, encode()[0])


def test_a_cache_that_may_only_be_read_is_read(encode, folder, monkeypatch):
    first, _, _ = encode()

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "utime", refused)
    again, said, ran = encode()
    assert same(first, again)
    assert said == ["features of 16 examples found in the cache"]
    assert not ran


# What is not taken from it.


def rewrite(path, change):
    with safe_open(path, framework="pt") as file:
        tensors, note = {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata()  # noqa: SIM118
    change(tensors, note)
    save_file(tensors, path, metadata=note)


def rewritten_whole(tensors, note, key):
    note["sha256"] = store._digest(key, tensors["features"], tensors.get("targets"))


def flipped_byte(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def flipped_target(path):
    rewrite(path, lambda tensors, note: tensors["targets"].neg_())


def fewer_rows(path):
    def change(tensors, note):
        tensors["features"] = tensors["features"][:-1].clone()
        rewritten_whole(tensors, note, path.stem)

    rewrite(path, change)


def fewer_targets(path):
    def change(tensors, note):
        tensors["targets"] = tensors["targets"][:-1].clone()
        rewritten_whole(tensors, note, path.stem)

    rewrite(path, change)


def other_shape(path):
    def change(tensors, note):
        tensors["features"] = tensors["features"].reshape(16, 4, -1).clone()

    rewrite(path, change)


def other_dtype(path):
    def change(tensors, note):
        tensors["features"] = tensors["features"].double()
        rewritten_whole(tensors, note, path.stem)

    rewrite(path, change)


def of_other_data(path):
    def change(tensors, note):
        tensors["features"] = tensors["features"].flip(0).clone()
        rewritten_whole(tensors, note, "0" * 40)

    rewrite(path, change)


def not_a_number(path):
    def change(tensors, note):
        tensors["features"][3, 2] = float("nan")
        rewritten_whole(tensors, note, path.stem)

    rewrite(path, change)


def no_digest(path):
    rewrite(path, lambda tensors, note: note.clear())


def no_features(path):
    rewrite(path, lambda tensors, note: tensors.pop("features"))


def truncated(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


DAMAGES = [
    flipped_byte, flipped_target, fewer_rows, fewer_targets, other_shape, other_dtype, not_a_number, no_digest,
    no_features, truncated, empty, of_other_data,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_entry_is_made_again_and_said_once(damage, encode, folder):
    first = [tensor.clone() for tensor in encode()[0]]
    (path,) = folder.iterdir()
    damage(path)
    again, said, ran = encode()
    assert ran
    assert same(first, again)
    assert len(said) == 1
    assert said[0].startswith("features of 16 examples in the cache cannot be used (")
    assert said[0].endswith("); they are made again")
    assert encode()[1:] == (["features of 16 examples found in the cache"], False)


def test_features_that_are_not_finite_are_not_kept(encode, folder, monkeypatch):
    features = TextClassification.features

    def broken(self, base, batch):
        result, targets = features(self, base, batch)
        return result * float("nan"), targets

    monkeypatch.setattr(TextClassification, "features", broken)
    for _ in range(2):
        encoded, said, ran = encode()
        assert encoded[0].isnan().all()
        assert ran
        assert not said
        assert not names(folder)


# What never gets there.


def test_predict_leaves_nothing_of_the_users_data_unless_asked(folder):
    engine, base, data = Engine(progress=Silent()), tiny_base("encoder"), texts()
    adapter = engine.train(base, data, strategy="linear_probe")
    trained = names(folder)
    assert len(trained) == 1
    inputs = ["a private word", "another one"]
    said = adapter.predict(inputs)
    adapter.predict(Dataset(data.task, data.inputs, None, (), {}, "<test>", "", None))
    assert names(folder) == trained
    assert [prediction.probability for prediction in adapter.predict(inputs, keep_features=True)] == [
        prediction.probability for prediction in said
    ]
    kept = names(folder)
    assert len(kept) == 2
    adapter.save(folder.parent / "adapter")
    engine.load_adapter(folder.parent / "adapter", base=tiny_base("encoder")).predict(inputs[:1])
    assert names(folder) == kept
    adapter.evaluate(Dataset(data.task, data.inputs[:9], data.targets[:9], data.labels, {}, "<test>", "", None))
    assert len(names(folder)) == 3


# Several processes.


RACE = """
import sys
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.training import features as store
from adapterhub_lite.progress import Silent
from adapterhub_text.tiny import texts
from adapterhub_lite.testing.models import tiny_base

base, data = tiny_base("encoder"), texts()
task = Engine(progress=Silent()).task_for(base, data)
examples = task.encode(data, base).examples
wanted = {n: store.encode_features(base, task, store.Encoded(examples[:n]), Silent(), keep=False)[0] for n in range(4, 12)}

class NothingDamaged(Silent):
    def say(self, line):
        assert "found in the cache" in line, line

print("ready", flush=True)
sys.stdin.readline()
for turn in range(25):
    for n in range(4, 12):
        found, _ = store.encode_features(base, task, store.Encoded(examples[:n]), NothingDamaged())
        assert (found == wanted[n]).all()
"""


def test_two_processes_that_write_read_and_delete_at_once_get_in_nobodys_way(folder):
    # Three or so of the eight entries have room, so that each process deletes what the other one looks for.
    limit = 3500
    environment = {**os.environ, "ADAPTERHUB_CACHE_LIMIT": str(limit)}
    command = [sys.executable, "-W", "error", "-c", RACE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    racing = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    for process in racing:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in racing:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in racing:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    assert 0 < sum(path.stat().st_size for path in folder.iterdir()) <= limit
    assert all(name.endswith(".safetensors") for name in names(folder))


def test_features_of_several_labels_are_kept_apart_by_how_many_there_are(train):
    engine, base = Engine(progress=Silent()), tiny_base("encoder")
    texts = ["good day", "bad day", "my card", "one two"]

    def probe(*labels):
        rows = [{"text": text, "label": label} for text, label in zip(texts * 4, labels * 4, strict=True)]
        data = engine.load_data(rows, "text-classification")
        return engine.train(base, data, strategy="linear_probe")

    test = [{"text": "good bank", "label": ["a", "b"]}, {"text": "bad bank", "label": ["a"]}]
    for adapter in (probe(["a", "b"], ["a"], ["b"], ["a"]), probe(["a", "b"], ["a"], ["b"], ["c"])):
        evaluation = adapter.evaluate(adapter.load_data(test))  # the same test data in two columns, then in three
        assert evaluation.n == 2


@pytest.mark.parametrize("fits", [4, 0])
def test_encoding_that_runs_out_of_memory_goes_on_with_less_at_once(fits, monkeypatch):
    engine, base, data = Engine(progress=Silent()), tiny_base("encoder"), texts()
    task = engine.task_for(base, data)
    encoded = task.encode(data, base)
    wanted, targets = encode_features(base, task, encoded, Silent(), keep=False)
    features = type(task).features

    def small(self, base, batch):
        if len(batch["input_ids"]) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return features(self, base, batch)

    monkeypatch.setattr(type(task), "features", small)
    if not fits:
        with pytest.raises(TrainingError, match=r"encoding a single example of length .*--max-length"):
            encode_features(base, task, encoded, Silent(), keep=False)
        return
    encoded_again, same = encode_features(base, task, encoded, Silent(), keep=False)
    torch.testing.assert_close(encoded_again, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(same, targets)
