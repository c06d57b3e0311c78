"""The adapter on disk: its manifest, how it is committed, and what is checked before it is loaded. No torch here."""

from __future__ import annotations

from adapterhub_lite.storage.base_match import check_base as check_base
from adapterhub_lite.storage.commit import (
    check_writable_target as check_writable_target,
    commit_directory as commit_directory,
)
from adapterhub_lite.storage.header import (
    check_tensors as check_tensors,
    is_tensor_name as is_tensor_name,
    read_header as read_header,
)
from adapterhub_lite.storage.history import KEEP as KEEP
from adapterhub_lite.storage.layout import CONFIG as CONFIG, MANIFEST as MANIFEST, TENSORS as TENSORS
from adapterhub_lite.storage.manifest import (
    BaseRecord as BaseRecord,
    DataRecord as DataRecord,
    FileRecord as FileRecord,
    Fingerprint as Fingerprint,
    Manifest as Manifest,
    ProbeRecord as ProbeRecord,
    StrategyRecord as StrategyRecord,
    TaskRecord as TaskRecord,
)
from adapterhub_lite.storage.store import (
    StoredAdapter as StoredAdapter,
    adapter_size as adapter_size,
    open_adapter as open_adapter,
    read_adapter as read_adapter,
    rewrite_task as rewrite_task,
    write_adapter as write_adapter,
)
