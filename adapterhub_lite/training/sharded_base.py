"""`--shard`: an adapter's base spread over the processes, before anything is run on it."""

from __future__ import annotations

from adapterhub_lite.base.shards import shard
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.processes import Processes


def shard_base(attachment: Attachment, processes: Processes) -> None:
    """Spread the base's weights over the processes, for good; what trains stays whole on each.

    From here on everything that runs the base has to be done by all processes alike.

    Raises:
        NotSupportedError: the strategy, the quantization or the model does not go with it.
    """
    base, spec = attachment.base, attachment.provided.spec
    if base.shards is not None:
        return
    if spec.traits.trains_base or attachment.view.rewrites_base:
        raise NotSupportedError(
            f"--shard does not go with strategy '{spec.name}' as it is set up, which changes weights of the base "
            "itself and keeps the old ones beside them; use a strategy that leaves them alone, such as lora"
        )
    device = processes.device
    base.activate(attachment.view)
    base.shards = shard(base.model, base.map, attachment.tensors.values(), device)
    base.device = device
    for parameter in attachment.tensors.values():
        parameter.data = parameter.data.to(device)
