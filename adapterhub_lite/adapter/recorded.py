"""An adapter with the history of a saved one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.progress import Progress
from adapterhub_lite.storage import Manifest
from adapterhub_lite.training.attachment import Attachment


def recorded_adapter(
    attachment: Attachment,
    plugins: Plugins,
    progress: Progress,
    manifest: Manifest,
    *,
    differences: Sequence[str] = (),
    probe_inputs: Sequence[Any] = (),
) -> Adapter:
    """An adapter with the data, scores, run and columns of a manifest.

    `differences` are those between this base and the recorded one that are overridden now.
    """
    metrics = {name: value for name, value in manifest.metrics.items() if value is not None}
    return Adapter(
        attachment, plugins, progress, data=manifest.data, metrics=metrics, training=dict(manifest.training),
        columns=dict(manifest.task.columns), files=dict(manifest.task.files),
        forced=[*manifest.forced, *differences], probe_inputs=list(probe_inputs),
    )  # fmt: skip
