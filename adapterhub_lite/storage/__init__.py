"""The adapter on disk: its manifest, how it is committed, and what is checked before it is loaded. No torch here."""

from __future__ import annotations

from adapterhub_lite.storage.base_match import check_base as check_base
from adapterhub_lite.storage.commit import check_writable_target as check_writable_target
from adapterhub_lite.storage.commit import commit_directory as commit_directory
from adapterhub_lite.storage.header import check_tensors as check_tensors
from adapterhub_lite.storage.header import read_header as read_header
from adapterhub_lite.storage.history import KEEP as KEEP
from adapterhub_lite.storage.layout import CONFIG as CONFIG
from adapterhub_lite.storage.layout import MANIFEST as MANIFEST
from adapterhub_lite.storage.layout import TENSORS as TENSORS
from adapterhub_lite.storage.manifest import BaseRecord as BaseRecord
from adapterhub_lite.storage.manifest import DataRecord as DataRecord
from adapterhub_lite.storage.manifest import FileRecord as FileRecord
from adapterhub_lite.storage.manifest import Fingerprint as Fingerprint
from adapterhub_lite.storage.manifest import Manifest as Manifest
from adapterhub_lite.storage.manifest import ProbeRecord as ProbeRecord
from adapterhub_lite.storage.manifest import StrategyRecord as StrategyRecord
from adapterhub_lite.storage.manifest import TaskRecord as TaskRecord
from adapterhub_lite.storage.store import StoredAdapter as StoredAdapter
from adapterhub_lite.storage.store import adapter_size as adapter_size
from adapterhub_lite.storage.store import open_adapter as open_adapter
from adapterhub_lite.storage.store import read_adapter as read_adapter
from adapterhub_lite.storage.store import write_adapter as write_adapter
