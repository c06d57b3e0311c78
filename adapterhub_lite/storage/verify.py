"""What can be verified of an adapter without a model, and how a verification is reported. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.storage.finite import check_finite
from adapterhub_lite.storage.plain import open_plain
from adapterhub_lite.storage.store import StoredAdapter, read_adapter

State = Literal["passed", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """One thing that was verified."""

    name: str
    state: State
    detail: str


@dataclass
class Verification:
    """The result of every check, and `error`, the first that failed, if one did."""

    path: str
    checks: list[Check] = field(default_factory=list)
    error: AdapterHubError | None = None

    @property
    def ok(self) -> bool:
        """Nothing failed; warnings and skipped checks do not count."""
        return self.error is None

    def run(self, name: str, check: Callable[[], tuple[State, str]]) -> None:
        """Run a check, unless one before it failed: then it is skipped, as it would only repeat that."""
        if self.error is not None:
            self.checks.append(Check(name, "skipped", "not reached"))
            return
        try:
            state, detail = check()
        except AdapterHubError as error:
            self.error = error
            state, detail = "failed", str(error)
        self.checks.append(Check(name, state, detail))

    def to_json(self) -> dict[str, Any]:
        """What `verify --json` prints."""
        checks = [{"name": c.name, "state": c.state, "detail": c.detail} for c in self.checks]
        return {
            "adapter": self.path,
            "ok": self.ok,
            "error": type(self.error).__name__ if self.error else None,
            "checks": checks,
        }


def verify_files(path: Path, key: Path | None = None) -> tuple[StoredAdapter | None, Verification]:
    """Check hashes, manifest, header and numbers of the adapter at `path`; with a public `key` its signature, too.

    Returns:
        The adapter, or None where it is damaged, and the report; a path without an adapter is reported, too.
    """
    report = Verification(str(path))
    opened: list[StoredAdapter] = []

    def files() -> tuple[State, str]:
        stored = read_adapter(path)
        opened.append(stored)
        size = sum(record.size for record in stored.manifest.files.values())
        return "passed", f"{len(stored.manifest.files) + 1} files as saved ({size:,} bytes by SHA-256)"

    def numbers() -> tuple[State, str]:
        stored = opened[0]
        with open_plain(stored.tensors) as file:
            check_finite(file, stored.header, stored.tensors)
        return "passed", f"{len(stored.header)} tensors, every value finite"

    report.run("files", files)
    report.run("tensors", numbers)
    if key is not None:
        from adapterhub_lite.storage.signing import verify_signature

        report.run("signature", lambda: ("passed", verify_signature(path, key)))
    return (opened[0] if report.ok else None), report
