"""What must not change when a run is resumed, and the versions, machine and commit it is recorded with."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import uuid
from array import array
from importlib import metadata
from pathlib import Path
from typing import Any

from adapterhub_lite.base.precision import dtype_name
from adapterhub_lite.tasks.task import Encoded
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.config import KEEPS_NO_RESULT, TrainConfig

RECORDED = ("adapterhub-lite", "torch", "transformers", "peft", "bitsandbytes", "accelerate", "safetensors", "numpy")


def run_identity(
    attachment: Attachment, config: TrainConfig, data: Encoded, held_out: Encoded | None, processes: int
) -> dict[str, Any]:
    """Everything that decides the numbers of a run, but for library versions and the machine, as JSON."""
    base, provided = attachment.base, attachment.provided
    begun = {} if attachment.goes_on_from is None else {"from_adapter": attachment.goes_on_from}
    return {
        **begun,
        "base": {
            "fingerprint": base.fingerprint.model_dump(mode="json"),
            "quantization": base.quantization,
            "dtype": dtype_name(base.dtype),
            "device": base.device.type,
        },
        "data": {"rows": len(data.examples), "sha256": data_hash(data)},
        "eval_data": None if held_out is None else {"rows": len(held_out.examples), "sha256": data_hash(held_out)},
        "task": {
            "name": attachment.task.name,
            "labels": list(attachment.task.labels),
            "preprocessing": attachment.task.preprocessing.record(),
        },
        "strategy": {"name": provided.spec.name, "dist": provided.dist, "version": provided.version},
        "settings": attachment.config.model_dump(mode="json"),
        "training": config.model_dump(mode="json", exclude=set(KEEPS_NO_RESULT)),
        "processes": processes,
    }


def data_hash(data: Encoded) -> str:
    """SHA-256 of the inputs and targets of the examples in order; of an image in a file the path."""
    total = hashlib.sha256()
    for example in data.examples:
        for value in (example.inputs, example.target):
            if isinstance(value, list) and all(type(number) is int for number in value):
                total.update(array("q", value).tobytes())
            elif hasattr(value, "tobytes"):
                total.update(f"{value.shape}{value.dtype}".encode() + value.tobytes())
            else:
                total.update(str(value).encode())
            total.update(b"\0")
    return total.hexdigest()


def new_id() -> str:
    """A name for a run that no other run has."""
    return uuid.uuid4().hex[:12]


def environment() -> dict[str, Any]:
    """Versions, machine and git commit."""
    return {
        "versions": {name: _version(name) for name in RECORDED},
        "python": platform.python_version(),
        "machine": platform.platform(),
        "git_commit": git_commit(),
        "energy": energy_used(),
    }


def energy_used(counters: Path = Path("/sys/class/powercap")) -> int | None:
    """What the processors have used since the machine began to count, in microjoules; None where it does not tell.

    Source: the Linux kernel's power capping framework, of which zone N of Intel's RAPL is package N.
    """
    try:
        whole = [zone for zone in counters.glob("intel-rapl:*") if zone.name.count(":") == 1]
        packages = [int((zone / "energy_uj").read_text()) for zone in whole]
    except (OSError, ValueError):
        return None
    return sum(packages) or None


def git_commit() -> str | None:
    """The commit of the working directory, with "+changes" where files differ from it; None outside a repository."""
    answers = []
    for question in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        # Without locks git only reads: `git describe --dirty` writes the index, and leaves a lock there if it is ended.
        ask = ["git", "--no-optional-locks", *question]
        try:
            answers.append(subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout.strip())
        except (OSError, subprocess.SubprocessError):
            return None
    commit, changes = answers
    return f"{commit}+changes" if changes else commit


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
