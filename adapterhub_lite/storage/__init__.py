"""The adapter on disk: its manifest, how it is committed, and what is checked before it is loaded. No torch here."""

from __future__ import annotations

from adapterhub_lite.storage.commit import check_writable_target, commit_directory
from adapterhub_lite.storage.compat import check_base
from adapterhub_lite.storage.header import TensorInfo, check_tensors, read_header
from adapterhub_lite.storage.history import KEEP
from adapterhub_lite.storage.manifest import (
    SCHEMA_VERSION,
    BaseRecord,
    DataRecord,
    FileRecord,
    Fingerprint,
    Manifest,
    ProbeRecord,
    StrategyRecord,
    TaskRecord,
)
from adapterhub_lite.storage.store import (
    CONFIG,
    MANIFEST,
    TENSORS,
    StoredAdapter,
    adapter_size,
    open_adapter,
    read_adapter,
    read_tensor_bytes,
    write_adapter,
)

__all__ = [
    "CONFIG",
    "KEEP",
    "MANIFEST",
    "SCHEMA_VERSION",
    "TENSORS",
    "BaseRecord",
    "DataRecord",
    "FileRecord",
    "Fingerprint",
    "Manifest",
    "ProbeRecord",
    "StoredAdapter",
    "StrategyRecord",
    "TaskRecord",
    "TensorInfo",
    "adapter_size",
    "check_base",
    "check_tensors",
    "check_writable_target",
    "commit_directory",
    "open_adapter",
    "read_adapter",
    "read_header",
    "read_tensor_bytes",
    "write_adapter",
]
