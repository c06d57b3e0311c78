"""A plug-in module that imports torch."""

import torch

from zoo import ScaleConfig

assert torch.__version__


class HeavyConfig(ScaleConfig):
    """Defined in a module that should be light."""
