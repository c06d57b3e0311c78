"""What is known about each of PEFT's methods: found by running them, and checked by `benchmarks/peft_methods.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from adapterhub_lite.api import MODALITIES, Field, Modality

TEXT: frozenset[Modality] = frozenset({"text"})


@dataclass(frozen=True)
class Known:
    """One method, as it behaves with its default options."""

    summary: str
    learning_rate: float = 1e-3
    mergeable: bool = True
    quantized: bool = True
    """It works on a 4-bit base: it neither reads nor writes the weights of the layers it adapts."""
    conv1d: bool = True
    """It works on layers that store their weight transposed, which are GPT-2's."""
    tokenwise: bool = True
    """What it does to a token depends on that token alone, so that padding and a cache change nothing."""
    identity: bool = True
    """Freshly attached it leaves the outputs as they were, up to rounding."""
    modalities: frozenset[Modality] = MODALITIES
    targets: str = "all-linear"
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Arguments for PEFT that are no options."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Fields that are no options of this method, with the reason."""
    types: Mapping[str, Any] = field(default_factory=dict)
    """Types of options of which not every value can be offered."""
    help: Mapping[str, str] = field(default_factory=dict)
    """Help for options that mean something else here than in PEFT."""
    strategy: str = ""
    """The class that runs it, as "module:Class" of this package; empty for the one of all methods."""
    limits: str = ""
    """More that a user should know, in a few words."""


KNOWN: dict[str, Known] = {
    "lora": Known(
        "Low-rank updates (Hu et al. 2021) with PEFT's options; strategy lora is the short form.",
        types={"init_lora_weights": bool | Literal["gaussian", "orthogonal", "mica"]},
        help={
            "monteclora_config": "MonteCLoRA: trained perturbations of LoRA's weights, sampled while training, with their "
            "divergence in the loss. Each sample is drawn when it is needed, whatever buffer_size is."
        },
        strategy="variants:LoraVariants",
    ),
    "adalora": Known(
        "Singular value decompositions whose least singular values are cut while training (Zhang et al. 2023).",
        learning_rate=2e-3,
        types={
            "init_lora_weights": bool,
            "target_r": Annotated[int, Field(ge=0)],
            "init_r": Annotated[int, Field(ge=1)],
            "tinit": Annotated[int, Field(ge=0)],
            "tfinal": Annotated[int, Field(ge=0)],
            "deltaT": Annotated[int, Field(ge=1)],
            "beta1": Annotated[float, Field(gt=0, lt=1)],
            "beta2": Annotated[float, Field(gt=0, lt=1)],
            "orth_reg_weight": Annotated[float, Field(ge=0)],
            "rank_pattern": dict[str, list[bool]] | None,
        },
        help={
            "total_step": "Steps the schedule runs over; those of the run if not set.",
            "rank_pattern": "Which singular values of each layer are left: those of a trained adapter. If set, ranks stay.",
        },
        left_out={
            "r": "AdaLoRA goes by init_r",
            "use_dora": "AdaLoRA has no DoRA",
            **dict.fromkeys(
                ("kasa_config", "monteclora_config", "velora_config", "use_bdlora"), "AdaLoRA's layers do not look at it"
            ),
        },
        strategy="adaptive:AdaLora",
    ),
    "adamss": Known(
        "Low-rank updates in clusters of the singular vectors of each weight.", quantized=False, conv1d=False,
        strategy="adaptive:AdaMss",
    ),
    "beft": Known("A trained bias beside each layer.", learning_rate=3e-3, conv1d=False, mergeable=False),
    "boft": Known("Orthogonal rotation of weights in butterfly factors (Liu et al. 2023).", conv1d=False),
    "c3a": Known("Block-circular convolution of the input.", quantized=False, conv1d=False, identity=False),
    "deft": Known("Decomposition into a projection and low-rank updates.", quantized=False),
    "delora": Known("Low-rank updates of bounded strength.", quantized=False, conv1d=False),
    "fourierft": Known("Updates from a few trained Fourier coefficients (Gao et al. 2024).", learning_rate=1e-2, identity=False),
    "frod": Known("Sparse updates in a basis shared by layers of one kind.", quantized=False),
    "glora": Known("Trained scales and shifts of weights, inputs and biases.", quantized=False, conv1d=False),
    "gralora": Known("Low-rank updates of the blocks of each weight.", quantized=False),
    "hira": Known("High-rank updates: the weight times a low-rank one."),
    "hra": Known("Householder reflections of weights (Yuan et al. 2024).", quantized=False, conv1d=False),
    "ia3": Known("One trained scale for each output (Liu et al. 2022).", learning_rate=3e-3),
    "lily": Known(
        "Low-rank updates whose upper halves are shared and mixed by a router.", conv1d=False, mergeable=False,
        tokenwise=False,
    ),
    "ln_tuning": Known("Trained copies of the normalization layers.", learning_rate=3e-3, targets="norms"),
    "loha": Known("Updates as Hadamard products of low-rank ones (Hyeon-Woo et al. 2021).", quantized=False, conv1d=False),
    "lokr": Known("Updates as Kronecker products.", quantized=False, conv1d=False),
    "miss": Known("Updates shared by shards of the input.", conv1d=False),
    "oft": Known("Orthogonal rotation of weights in blocks (Qiu et al. 2023).", conv1d=False),
    "osf": Known("The lesser singular directions of each weight, trained.", quantized=False, conv1d=False),
    "peanut": Known("Updates made by a small network from the weight itself.", quantized=False, conv1d=False),
    "poly": Known(
        "Several low-rank updates, mixed in shares that each task learns (Ponti et al. 2022).", quantized=False,
        conv1d=False, mergeable=False, strategy="layers:Poly",
    ),
    "psoft": Known("Orthogonal rotation in the principal subspace of each weight.", quantized=False, conv1d=False),
    "pvera": Known(
        "VeRA with sampled updates.", learning_rate=5e-3, strategy="layers:PVera",
        left_out={"sample_at_inference": "the same input would give other outputs each time"},
        help={
            "generator_seed": "Without effect, whatever it is in PEFT: samples are drawn from the random numbers of the run, "
            "so that it can be resumed exactly."
        },
    ),
    "randlora": Known("Full-rank updates from scaled random matrices (Albert et al. 2025)."),
    "road": Known("Rotations of pairs of outputs (Liao et al. 2024).", learning_rate=3e-3, conv1d=False),
    "shira": Known("A sparse set of entries of each weight (Bhardwaj et al. 2024).", conv1d=False),
    "supertuning": Known("The entries of each weight that PEFT ranks first.", quantized=False, conv1d=False),
    "tinylora": Known(
        "A handful of numbers that scale fixed directions of each weight.", learning_rate=5e-3, quantized=False,
        left_out={"init_weights": "without it PEFT starts the numbers as whatever lies in memory"},
    ),
    "trainable_tokens": Known(
        "Trained embeddings for the tokens in token_indices.", targets="embedding", modalities=TEXT,
        strategy="layers:TrainableTokens",
    ),
    "unilora": Known("All updates from one trained vector.", learning_rate=1e-2, quantized=False, identity=False),
    "vblora": Known("Updates put together from a shared bank of vectors (Li et al. 2024).", learning_rate=1e-2, identity=False),
    "vera": Known("Scales of random matrices that all layers share (Kopiczko et al. 2023).", learning_rate=5e-3),
    "waveft": Known("Updates from a few trained wavelet coefficients.", learning_rate=1e-2),
}  # fmt: skip

NOT_TRIED = Known(
    "A method of PEFT that this version of adapterhub_lite does not know.",
    mergeable=False,
    quantized=False,
    conv1d=False,
    tokenwise=False,
    identity=False,
    limits="not tried",
)

REFUSED: dict[str, str] = {
    "adaption_prompt": "`inject_adapter_in_model` does not support it: it is no layer, but a change of the model's own attention",
    "shadow": "`inject_adapter_in_model` does not support it: a second model runs beside the base",
    "xlora": "it mixes LoRA adapters that are already trained",
}
"""Methods that are not offered, with the reason; those of virtual tokens are found by their class."""

PROMPT = "it learns virtual tokens, which are not put into layers; use strategy prefix"


def known(method: str) -> Known:
    """What is known about a method."""
    return KNOWN.get(method, NOT_TRIED)
