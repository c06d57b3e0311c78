"""Push and pull against a hub in a folder, laid out as the real cache is: snapshots are links to blobs."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from adapterhub_lite.errors import AdapterCorruptError, AdapterNotFoundError, ConfigError, StorageError
from adapterhub_lite.exchange.card import local_licence, model_card
from adapterhub_lite.exchange.hub import pull, push
from adapterhub_lite.storage import read_adapter
from adapterhub_lite.storage.history import list_versions
from benchmarks.damage import sample


class FakeHub:
    """The few methods of HfApi that are used, on folders."""

    def __init__(self, root: Path):
        self.root = root
        self.calls: list[str] = []
        self.commits: dict[str, list[dict[str, bytes]]] = {}

    def create_repo(self, *, repo_id: str, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.calls.append(f"create {repo_id} {'private' if private else 'public'}")
        self.commits.setdefault(repo_id, [])

    def file_exists(self, *, repo_id: str, filename: str) -> bool:
        return bool(self.commits.get(repo_id)) and filename in self.commits[repo_id][-1]

    def validate_card(self, text: str) -> None:
        """What the hub says of a licence that it does not know."""
        licence = front(text).get("license")
        if licence is not None and licence != "other" and licence not in ("apache-2.0", "mit", "cc-by-4.0"):
            raise ValueError(f'- Error: "license" must be one of [apache-2.0, mit]\n\n- Error: got "{licence}"')

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str, delete_patterns: list[str]) -> Any:
        before = self.commits[repo_id][-1] if self.commits[repo_id] else {}
        before = {name: data for name, data in before.items() if name not in delete_patterns}
        new = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        self.commits[repo_id].append({**before, **new})
        self.calls.append(f"upload {commit_message}")
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/{len(self.commits[repo_id])}")

    def model_info(self, *, repo_id: str, revision: str | None = None) -> Any:
        if repo_id == "org/base":
            return SimpleNamespace(sha="0", card_data=SimpleNamespace(license="apache-2.0"))
        if repo_id not in self.commits:
            raise LookupError(f"404 Client Error.\n\nRepository Not Found for {repo_id}")
        number = len(self.commits[repo_id]) if revision is None else int(revision)
        return SimpleNamespace(sha=str(number), card_data=None)

    def get_paths_info(self, *, repo_id: str, paths: list[str], revision: str) -> list[Any]:
        files = self.commits[repo_id][int(revision) - 1]
        return [SimpleNamespace(path=name, size=len(files[name])) for name in paths if name in files]

    def hf_hub_download(self, *, repo_id: str, filename: str, revision: str) -> str:
        self.calls.append(f"download {filename}")
        data = self.commits[repo_id][int(revision) - 1][filename]
        blob = self.root / "blobs" / hashlib.sha256(data).hexdigest()
        snapshot = self.root / "snapshots" / revision / filename
        for place in (blob, snapshot):
            place.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        snapshot.unlink(missing_ok=True)
        snapshot.symlink_to(blob)
        return str(snapshot)


@pytest.fixture
def hub(tmp_path: Path) -> FakeHub:
    return FakeHub(tmp_path / "hub")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_there_and_back(hub: FakeHub, source: Path, tmp_path: Path) -> None:
    (source / "notes.txt").write_text("mine alone")
    assert push(source, "me/words", private=True, api=hub) == "https://hub/me/words/commit/1"
    assert hub.calls == ["create me/words private", "upload adapterhub-lite: lora for text-classification"]
    assert sorted(hub.commits["me/words"][0]) == sorted(
        [*read_adapter(source).manifest.files, "adapterhub.json", "README.md"]
    )
    manifest = pull("me/words", tmp_path / "out", api=hub)
    assert manifest == read_adapter(tmp_path / "out").manifest
    (source / "notes.txt").unlink()
    assert contents(tmp_path / "out") == contents(source)
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())


def test_a_signature_comes_along(hub: FakeHub, source: Path, tmp_path: Path) -> None:
    (source / "model.sig").write_bytes(b"{}")
    push(source, "me/words", api=hub)
    pull("me/words", tmp_path / "out", api=hub)
    assert contents(tmp_path / "out") == contents(source)


def test_a_revision_is_pulled_and_the_one_there_kept(hub: FakeHub, source: Path, tmp_path: Path) -> None:
    push(source, "me/words", api=hub)
    push(sample(tmp_path / "two", 2), "me/words", api=hub)
    pull("me/words", tmp_path / "out", api=hub)
    assert read_adapter(tmp_path / "out").manifest.training["seed"] == 2
    pull("me/words@1", tmp_path / "out", api=hub)
    assert [version.manifest.training["seed"] for version in list_versions(tmp_path / "out")] == [2, 1]


def test_a_card_somebody_wrote_stays(hub: FakeHub, source: Path) -> None:
    push(source, "me/words", api=hub)
    hub.commits["me/words"][-1]["README.md"] = b"my own words"
    push(source, "me/words", api=hub)
    assert hub.commits["me/words"][-1]["README.md"] == b"my own words"
    push(source, "me/words", card=True, api=hub)
    assert hub.commits["me/words"][-1]["README.md"].startswith(b"---\nlibrary_name: peft\n")


def test_a_damaged_adapter_is_not_pushed(hub: FakeHub, source: Path) -> None:
    (source / "run.yaml").write_text("x")
    with pytest.raises(AdapterCorruptError):
        push(source, "me/words", api=hub)
    assert hub.calls == []


@pytest.mark.parametrize("name", ["run.yaml", "adapter_model.safetensors", "adapterhub.json"])
def test_what_was_changed_on_the_hub_is_not_put_in_place(hub: FakeHub, source: Path, tmp_path: Path, name: str) -> None:
    push(source, "me/words", api=hub)
    data = bytearray(hub.commits["me/words"][0][name])
    data[-2] ^= 1
    hub.commits["me/words"][0][name] = bytes(data)
    out = sample(tmp_path / "out", 2)
    before = contents(out)
    with pytest.raises(AdapterCorruptError, match=name):
        pull("me/words", out, api=hub)
    assert contents(out) == before


def test_sizes_are_compared_before_anything_is_downloaded(hub: FakeHub, source: Path, tmp_path: Path) -> None:
    push(source, "me/words", api=hub)
    hub.commits["me/words"][0]["adapter_model.safetensors"] += bytes(1000)
    with pytest.raises(AdapterCorruptError, match="bytes where"):
        pull("me/words", tmp_path / "out", api=hub)
    assert [call for call in hub.calls if call.startswith("download")] == ["download adapterhub.json"]
    del hub.commits["me/words"][0]["adapter_model.safetensors"]
    with pytest.raises(AdapterCorruptError, match="no bytes where"):
        pull("me/words", tmp_path / "out", api=hub)
    assert not (tmp_path / "out").exists()


def test_what_else_is_in_the_repository_is_not_fetched(hub: FakeHub, source: Path, tmp_path: Path) -> None:
    push(source, "me/words", api=hub)
    hub.commits["me/words"][0] |= {"adapter_model.bin": b"pickle", "evil.py": b"import os"}
    pull("me/words", tmp_path / "out", api=hub)
    assert contents(tmp_path / "out") == contents(source)


def test_what_goes_wrong_is_one_line(hub: FakeHub, source: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterNotFoundError, match="cannot pull me/none: LookupError: 404 Client Error") as caught:
        pull("me/none", tmp_path / "out", api=hub)
    assert "\n" not in str(caught.value)
    hub.create_repo(repo_id="me/other", private=False, exist_ok=True)
    hub.commits["me/other"].append({"README.md": b""})
    with pytest.raises(AdapterNotFoundError, match="cannot pull me/other"):
        pull("me/other", tmp_path / "out", api=hub)
    for bad in ("words", "a/b/c", "/x", "me/", "me/words@"):
        with pytest.raises(ConfigError, match="owner/name"):
            pull(bad, tmp_path / "out", api=hub)
    with pytest.raises(ConfigError, match="push to me/words"):
        push(source, "me/words@1", api=hub)

    def refuse(**options: Any) -> None:
        raise PermissionError("403 Forbidden: log in first")

    hub.create_repo = refuse  # type: ignore[method-assign]
    with pytest.raises(StorageError, match="cannot push to me/words: PermissionError: 403 Forbidden"):
        push(source, "me/words", api=hub)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(StorageError, match="not ours to replace"):
        pull("me/words", tmp_path / "mine", api=hub)


def test_on_the_command_line(run, hub, source, tmp_path, monkeypatch):
    monkeypatch.setattr("adapterhub_lite.exchange.hub.make_api", lambda: hub)
    pushed = run("push", source, "me/words")
    assert (pushed.code, pushed.out) == (0, "https://hub/me/words/commit/1\n")
    assert run("pull", "me/words", tmp_path / "out").code == 0
    assert run("verify", tmp_path / "out", "--files-only").code == 0
    failed = run("pull", "me/none", tmp_path / "out2")
    assert failed.code == 1
    assert failed.err.startswith("error: cannot pull me/none")


def front(card: str) -> Any:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_says_what_matters(source: Path, hub: FakeHub) -> None:
    manifest = read_adapter(source).manifest
    card = model_card(manifest, peft=True, licence="apache-2.0")
    assert front(card) == {
        "library_name": "peft",
        "pipeline_tag": "text-classification",
        "tags": ["adapterhub-lite", "adapter", "lora"],
        "base_model": "org/base",
        "license": "apache-2.0",
    }
    for said in (
        "`no`, `да`, `是`",
        "10 rows of `train.csv`",
        "d" * 64,
        "| accuracy | 0.1000 |",
        "apache-2.0",
        "## Limits",
    ):
        assert said in card
    push(source, "me/words", api=hub)
    assert "apache-2.0" in hub.commits["me/words"][0]["README.md"].decode()


def test_the_card_takes_figures_from_the_report_that_the_run_left(source: Path, hub: FakeHub) -> None:
    manifest = read_adapter(source).manifest
    told = {"known": True, "n": 20, "recall_interval": [0.3, 0.7], "recall": 0.5, "label": "| <b>"}
    facts: dict[str, Any] = {
        "report": 1,
        "base": {"weights": manifest.base.fingerprint.weights},
        "data": {"sha256": manifest.data.sha256 if manifest.data is not None else None},
        "adapter": {"strategy": manifest.strategy.name},
        "metrics": dict(manifest.metrics),
        "metric": "accuracy",
        "baselines": [{"name": "always the commonest", "score": 0.25}],
        "classes": [told, {**told, "label": "fine"}],
    }
    run = source.with_name(f"{source.name}.run")
    run.mkdir()
    (run / "report.json").write_text(json.dumps(facts), encoding="utf-8")
    push(source, "me/words", api=hub)
    card = hub.commits["me/words"][0]["README.md"].decode()
    assert "| always the commonest | 0.2500 |" in card
    assert "| \\| \\<b\\> | 20 | 0.50 (0.30 to 0.70) |" in card
    other = {**facts, "metrics": {**facts["metrics"], "accuracy": 0.5}}  # of another training
    (run / "report.json").write_text(json.dumps(other), encoding="utf-8")
    push(source, "me/other", api=hub)
    assert "always the commonest" not in hub.commits["me/other"][0]["README.md"].decode()


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("MIT", {"license": "mit"}),
        ("MIT License", {"license": "mit"}),
        ("Apache Software License", {"license": "apache-2.0"}),
        ("GPL-3.0-or-later", {"license": "gpl-3.0"}),
        ("CC-BY-NC-SA-4.0", {"license": "cc-by-nc-sa-4.0"}),
        ("Tongyi Qianwen", {"license": "other", "license_name": "tongyi-qianwen"}),
        ("other", {"license": "other", "license_name": "other"}),
        (None, {}),
    ],
)
def test_licences_are_written_as_the_hub_takes_them(licence: str | None, fields: dict[str, str], source: Path) -> None:
    card = front(model_card(read_adapter(source).manifest, peft=True, licence=licence))
    assert {key: value for key, value in card.items() if key.startswith("license")} == fields


def test_a_card_is_validated_before_a_repository_is_made(hub: FakeHub, source: Path) -> None:
    def refuse(text: str) -> None:
        raise ValueError('- Error: "license" must be one of [apache-2.0]\n\n- Warning: "tags" are few')

    hub.validate_card = refuse  # type: ignore[method-assign]
    with pytest.raises(StorageError) as caught:
        push(source, "me/words", api=hub)
    assert '"license" must be one of [apache-2.0]' in str(caught.value)
    assert '"tags" are few' in str(caught.value)
    assert hub.calls == []
    assert hub.commits == {}


def test_the_card_gives_nothing_away_and_nothing_in_it_is_markup(source: Path) -> None:
    manifest = read_adapter(source).manifest
    hostile = "a`b\n# c | <script> [x](y)\n---\nlicense: mit"
    manifest = manifest.model_copy(
        update={
            "task": manifest.task.model_copy(update={"labels": [hostile, "x"]}),
            "base": manifest.base.model_copy(update={"reference": "/home/me/secret/llama", "revision": None}),
            "data": manifest.data.model_copy(update={"source": "C:\\Users\\me\\train.csv"}) if manifest.data else None,
            "metrics": {hostile: 1.0},
            "forced": [hostile],
        }
    )
    card = model_card(manifest, peft=False, licence=None)
    assert "base_model" not in front(card)
    assert "license" not in front(card)
    assert "unknown; ask its authors" in card
    assert "secret" not in card
    assert "Users" not in card
    assert "`llama`" in card
    body = card.split("---\n", 2)[2]
    assert not [line for line in body.splitlines() if line.startswith(("license", "---", "# c"))]
    assert "<script>" not in body.replace("\\<script\\>", "").replace(
        "`a'b # c / <script> [x](y) --- license: mit`", ""
    )


def test_licences_on_this_machine(tmp_path: Path) -> None:
    assert local_licence("pypi:no-such-dist") is None
    assert local_licence("pypi:pytest") == "MIT"
    assert local_licence(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# x")
    assert local_licence(str(tmp_path)) == "cc-by-4.0"
    (tmp_path / "README.md").write_text("---\n- [\n---\n# x")
    assert local_licence(str(tmp_path)) is None
    shutil.rmtree(tmp_path)
    assert local_licence(str(tmp_path)) is None


def test_a_signature_is_replaced_with_what_it_signs(hub: FakeHub, source: Path) -> None:
    push(source, "me/words", api=hub)
    hub.commits["me/words"][-1]["model.sig"] = b"{}"  # as if an earlier version had been signed
    push(source, "me/words", api=hub)
    assert "model.sig" not in hub.commits["me/words"][-1]
    (source / "model.sig").write_bytes(b"{}")
    push(source, "me/words", api=hub)
    push(source, "me/words", api=hub)
    assert hub.commits["me/words"][-1]["model.sig"] == b"{}"


@pytest.mark.parametrize("name", ["me/x y", "-x/y", "me/x\n", "me/../x", "/x", "me/", "me/x@"])
def test_what_is_no_name_of_a_repository_is_not_sent(name: str, hub: FakeHub, source: Path) -> None:
    with pytest.raises(ConfigError):
        push(source, name, api=hub)
    assert hub.calls == []
