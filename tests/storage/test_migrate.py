"""Adapters saved by earlier releases: every file in `golden` must be readable for good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from storage_samples import edit_manifest, good_tensors, save

from adapterhub_lite.errors import AdapterCorruptError
from adapterhub_lite.storage import migrate
from adapterhub_lite.storage.layout import MANIFEST
from adapterhub_lite.storage.manifest import SCHEMA_VERSION
from adapterhub_lite.storage.store import open_adapter, read_adapter

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_golden_adapters_are_read(version: int) -> None:
    stored, tensors = open_adapter(GOLDEN / f"schema-{version}")
    assert stored.manifest.schema_version == SCHEMA_VERSION
    assert stored.manifest.strategy.name == "lora"
    assert stored.manifest.task.labels == ["no", "да", "是"]
    assert stored.manifest.metrics == {"accuracy": 0.1 + 0.2, "loss": None}
    assert tensors == good_tensors(1)


def older(document: dict[str, Any]) -> dict[str, Any]:
    """Undo what `step` does, on a manifest of schema version 1."""
    renamed = {**document, "scores": document["metrics"], "schema_version": 0}
    del renamed["metrics"]
    return renamed


def step(document: dict[str, Any]) -> dict[str, Any]:
    return {**{k: v for k, v in document.items() if k != "scores"}, "metrics": document["scores"]}


def test_an_older_manifest_is_migrated_and_left_alone_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a", 1)
    before = read_adapter(tmp_path / "a").manifest
    path = tmp_path / "a" / MANIFEST
    document = older(json.loads(path.read_bytes()))
    path.write_text(json.dumps({"manifest_sha256": "0" * 64, **document}, indent=2, ensure_ascii=False))
    from storage_samples import reseal

    reseal(tmp_path / "a", raw=path.read_bytes())
    raw = path.read_bytes()
    with pytest.raises(AdapterCorruptError, match=r"schema_version|scores|metrics"):
        read_adapter(tmp_path / "a")
    monkeypatch.setitem(migrate.STEPS, 0, step)
    assert read_adapter(tmp_path / "a").manifest == before
    assert path.read_bytes() == raw


def test_a_step_that_fails_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a", 1)
    edit_manifest(tmp_path / "a", schema_version=0)
    monkeypatch.setitem(migrate.STEPS, 0, step)
    with pytest.raises(AdapterCorruptError, match=r"not a manifest of schema version 0 .*scores"):
        read_adapter(tmp_path / "a")
