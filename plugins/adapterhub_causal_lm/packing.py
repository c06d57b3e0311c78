"""What is asked for by `packing`: batches without any padding, or none."""

from __future__ import annotations

from torch import nn

from adapterhub_lite.api import NotSupportedError

UNPACKED = "use --task-set packing=false"


def check_packing(model: nn.Module, reference: str, longest: int | None) -> None:
    """Refuse a model of which it is known that its texts cannot all be run in one row as they are alone.

    Raises:
        NotSupportedError: saying why.
    """
    config = model.config.get_text_config()  # type: ignore[operator, union-attr]
    window = getattr(config, "sliding_window", None)
    if window is not None and getattr(config, "use_sliding_window", True) and (longest is None or longest > window):
        raise NotSupportedError(
            f"'{reference}' attends to the last {window} tokens only, which packing does not keep for inputs of up to "
            f"{longest} tokens; {UNPACKED}, or --max-length {window}"
        )
