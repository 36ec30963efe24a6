"""What the catalogue offers of peft under which name, with which defaults, and from which paper.

Every adapter type of peft is offered under its own name in lower case, with peft's defaults. What is written here
is where that is not enough: the papers' names for settings of one type, defaults that a paper states, one-line
summaries, and the types that cannot train a causal language model by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# For every PEFT run of arXiv 2411.16775; its learning rate is that of its LoRA runs.
LOW_RANK: Mapping[str, Any] = {
    "learning_rate": 5e-4,
    "weight_decay": 0.01,
    "scheduler": "linear",
    "warmup_ratio": 0.03,
}
# Vectors and prompts move little with each step: the largest rate of that paper's grid, which it used for all methods.
FEW_WEIGHTS: Mapping[str, Any] = {**LOW_RANK, "learning_rate": 1e-3}


class Extra(NamedTuple):
    """An option that is no setting of peft; a number, which must not be below `least`."""

    name: str
    kind: type
    default: float
    description: str
    least: float


@dataclass(frozen=True, slots=True)
class Preset:
    """A name after `--method` and what it stands for.

    Attributes:
        name: the name.
        peft_type: peft's adapter type.
        summary: one line for `peft-eval methods`.
        source: the paper.
        defaults: other defaults than peft's, by option.
        pinned: settings that make the method what it is, by peft's name; they are no options.
        training: the method's values for settings of training.
        rank_fits: whether the rank must fit into the smaller side of each layer.
        start: what the first step computes if it is not what the base computes.
        extras: options that are no setting of peft.
    """

    name: str
    peft_type: str
    summary: str
    source: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    pinned: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=lambda: LOW_RANK)
    rank_fits: bool = True
    start: str = ""
    extras: tuple[Extra, ...] = ()


_START_EXAMPLES = Extra("start_examples", int, 256, "Training examples that the start is computed from.", 1)

# rank: the middle of the paper's grid of 8 to 512, which TÜLU 2's LoRA runs used as well; alpha = rank; dropout 0.1.
_LORA: Mapping[str, Any] = {"rank": 64, "alpha": None, "dropout": 0.1}
# These start from the base's largest directions, which dropout would take away from the first step.
_SPLIT: Mapping[str, Any] = {**_LORA, "dropout": 0.0}

_PRESETS = (
    Preset("lora", "LORA", "low-rank update of linear layers", "arXiv 2106.09685", _LORA, extras=(_START_EXAMPLES,)),
    Preset("rslora", "LORA", "LoRA scaled by alpha / sqrt(rank)", "arXiv 2312.03732", _LORA, {"use_rslora": True}),
    Preset("dora", "LORA", "LoRA and a trained magnitude per output", "arXiv 2402.09353", _LORA, {"use_dora": True}),
    Preset(
        "pissa",
        "LORA",
        "LoRA started from the principal singular vectors",
        "arXiv 2404.02948",
        {**_SPLIT, "init": "pissa"},
    ),
    Preset(
        "olora",
        "LORA",
        "LoRA started from an orthonormal (QR) basis",
        "arXiv 2406.01775",
        _SPLIT,
        {"init_lora_weights": "olora"},
    ),
    Preset(
        "eva",
        "LORA",
        "LoRA started from the layers' inputs on the training data",
        "arXiv 2410.07170",
        _LORA,
        {"init_lora_weights": "eva"},
        extras=(_START_EXAMPLES,),
    ),
    Preset(
        "corda",
        "LORA",
        "LoRA started from weights seen through the inputs' covariance",
        "arXiv 2406.05223",
        _SPLIT,
        {"init_lora_weights": "corda"},
        extras=(_START_EXAMPLES,),
    ),
    Preset(
        "lora_ga",
        "LORA",
        "LoRA started from the gradient on the training data",
        "arXiv 2407.05000",
        _SPLIT,
        {"init_lora_weights": "lora_ga"},
        extras=(_START_EXAMPLES,),
    ),
    Preset(
        "loraplus",
        "LORA",
        "LoRA whose B learns faster than A (LoRA+)",
        "arXiv 2402.12354",
        _LORA,
        training={**LOW_RANK, "learning_rate": 1e-4},
        extras=(Extra("lr_ratio", float, 16.0, "Learning rate of B over that of A.", 1.0),),
    ),
    Preset("lorafa", "LORA", "LoRA with A frozen (LoRA-FA)", "arXiv 2308.03303", _LORA),
    Preset(
        "adalora",
        "ADALORA",
        "LoRA whose rank is moved to where it matters while training",
        "arXiv 2303.10512",
    ),
    Preset(
        "krona",
        "LOKR",
        "Kronecker product of two trained matrices",
        "arXiv 2212.10650",
        pinned={"r": None, "alpha": None, "decompose_both": False},
        training=FEW_WEIGHTS,
        rank_fits=False,
        extras=(Extra("scale", float, 1.0, "Factor of the update.", 0.0),),
    ),
    Preset("lokr", "LOKR", "Kronecker product, its larger factor of low rank", "arXiv 2309.14859"),
    Preset("loha", "LOHA", "Hadamard product of two low-rank updates", "arXiv 2108.06098"),
    Preset("ia3", "IA3", "scales of keys, values and the feed-forward", "arXiv 2205.05638", training=FEW_WEIGHTS),
    Preset(
        "vera",
        "VERA",
        "vectors around frozen random projections shared by all layers",
        "arXiv 2310.11454",
        training=FEW_WEIGHTS,
        rank_fits=False,
    ),
    Preset(
        "pvera",
        "PVERA",
        "VeRA with a distribution over its latent vector",
        "arXiv 2512.07703",
        training=FEW_WEIGHTS,
        rank_fits=False,
    ),
    Preset(
        "ln_tuning", "LN_TUNING", "the weights of the normalisation layers", "arXiv 2312.11420", training=FEW_WEIGHTS
    ),
    Preset(
        "prompt_tuning",
        "PROMPT_TUNING",
        "embeddings of virtual tokens before the input",
        "arXiv 2104.08691",
        {"num_virtual_tokens": 32},
        training=FEW_WEIGHTS,
        start="random virtual tokens stand before the input",
    ),
    Preset(
        "p_tuning",
        "P_TUNING",
        "virtual tokens written by a small network",
        "arXiv 2103.10385",
        {"num_virtual_tokens": 32, "encoder_hidden_size": 128},
        training=FEW_WEIGHTS,
        start="random virtual tokens stand before the input",
    ),
    Preset(
        "prefix_tuning",
        "PREFIX_TUNING",
        "keys and values of virtual tokens in each layer",
        "arXiv 2101.00190",
        {"num_virtual_tokens": 32},
        training=FEW_WEIGHTS,
        start="random keys and values stand before the input",
    ),
    Preset(
        "cartridge",
        "CARTRIDGE",
        "a trained key-value cache, its first token frozen",
        "arXiv 2506.06266",
        {"num_virtual_tokens": 32},
        training=FEW_WEIGHTS,
        start="random keys and values stand before the input",
    ),
    Preset(
        "adaption_prompt",
        "ADAPTION_PROMPT",
        "gated prompts in the upper layers' attention (LLaMA-Adapter)",
        "arXiv 2303.16199",
        {"adapter_len": 10},
        training=FEW_WEIGHTS,
    ),
    Preset("trainable_tokens", "TRAINABLE_TOKENS", "the embeddings of chosen tokens", "", training=FEW_WEIGHTS),
    Preset(
        "fourierft",
        "FOURIERFT",
        "sparse Fourier coefficients of the update",
        "arXiv 2405.03003",
        training=FEW_WEIGHTS,
        start="the coefficients are drawn at random, as in the paper",
    ),
    Preset("waveft", "WAVEFT", "sparse wavelet coefficients of the update", "arXiv 2505.12532", training=FEW_WEIGHTS),
    Preset("oft", "OFT", "orthogonal block rotations of the weights", "arXiv 2306.07280", rank_fits=False),
    Preset("boft", "BOFT", "orthogonal butterfly rotations of the weights", "arXiv 2311.06243"),
    Preset("hra", "HRA", "a chain of Householder reflections", "arXiv 2405.17484"),
    Preset(
        "vblora",
        "VBLORA",
        "low-rank factors mixed from one shared bank of vectors",
        "arXiv 2405.15179",
        training=FEW_WEIGHTS,
        start="near the base: the bank is drawn from ±0.02",
    ),
    Preset("miss", "MISS", "one trained block added to every shard of the weights", "arXiv 2409.15371"),
    Preset(
        "randlora", "RANDLORA", "full-rank sum of scaled random low-rank bases", "arXiv 2502.00987", rank_fits=False
    ),
    Preset(
        "road", "ROAD", "two-dimensional rotations of the layers' outputs", "arXiv 2409.00119", training=FEW_WEIGHTS
    ),
    Preset("shira", "SHIRA", "a sparse random choice of the weights themselves", "arXiv 2406.13175", rank_fits=False),
    Preset(
        "c3a",
        "C3A",
        "circular convolutions as update",
        "arXiv 2407.19342",
        start="the kernels are drawn at random (xavier_uniform)",
    ),
    Preset("hira", "HIRA", "low-rank update multiplied with the weights", "ICLR 2025"),
    Preset("delora", "DELORA", "LoRA with direction and strength apart", "arXiv 2503.18225"),
    Preset("gralora", "GRALORA", "LoRA in blocks of the weights", "arXiv 2505.20355"),
    Preset("glora", "GLORA", "generalised LoRA: scales, shifts and low-rank prompts", "arXiv 2306.07967"),
    Preset("lily", "LILY", "low-rank experts shared by the layers, with a router", "arXiv 2407.09946"),
    Preset("beft", "BEFT", "an added bias of the value projections", "arXiv 2509.15974", training=FEW_WEIGHTS),
    Preset("osf", "OSF", "the small singular directions of the weights; the large ones stay", "arXiv 2504.07097"),
    Preset(
        "tinylora",
        "TINYLORA",
        "a few shared numbers through frozen singular and random directions",
        "arXiv 2602.04118",
        training=FEW_WEIGHTS,
    ),
    Preset(
        "unilora",
        "UNILORA",
        "all LoRA weights from one short trained vector",
        "arXiv 2506.00799",
        training=FEW_WEIGHTS,
        start="near the base: the vector is drawn from ±0.02",
    ),
    Preset("peanut", "PEANUT", "an update computed from the weights by a small network", "arXiv 2410.01870"),
    Preset("psoft", "PSOFT", "rotation within the principal subspace of the weights", "ICLR 2026"),
    Preset(
        "frod",
        "FROD",
        "sparse rotations in a basis shared by all layers",
        "AAAI 2026",
        training=FEW_WEIGHTS,
    ),
    Preset("adamss", "ADAMSS", "subspaces of the weights that adapt to their importance", "", rank_fits=False),
    Preset("deft", "DEFT", "low-rank projection that removes and adds directions", "NeurIPS 2025"),
    Preset(
        "supertuning",
        "SUPERTUNING",
        "a sparse choice of the weights by their size",
        "arXiv 2607.09287",
        rank_fits=False,
    ),
    Preset("shadow", "SHADOW", "a small shadow network beside the layers", "arXiv 2604.19254", rank_fits=False),
)
PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in _PRESETS}

# Adapter types that cannot train a causal language model on instruction data by themselves, and why.
UNAVAILABLE: Mapping[str, str] = {
    "XLORA": "it mixes LoRA adapters that were trained before",
    "POLY": "it needs the number of a training task with every prompt, which unseen tasks do not have",
    "MULTITASK_PROMPT_TUNING": "it needs the number of a training task with every prompt, "
    "which unseen tasks do not have",
    "CPT": "it trains the tokens of one task's examples, with a loss of its own",
}

# Settings of peft that are no options of one type.
NOT_OFFERED_BY_TYPE: Mapping[str, frozenset[str]] = {
    "ADALORA": frozenset(
        {"r", "use_rslora", "use_dora", "init_lora_weights", "eva_config", "corda_config", "lora_ga_config"}
        | {"rank_pattern", "velora_config", "alora_invocation_tokens", "lora_bias", "target_parameters"}
        | {"use_bdlora", "layers_to_transform", "layers_pattern", "trainable_token_indices"}
    ),
    "ADAPTION_PROMPT": frozenset({"target_modules"}),
    "SHADOW": frozenset({"target_modules", "exclude_modules"}),
    "TRAINABLE_TOKENS": frozenset({"target_modules"}),
}

# Settings of peft that are no options, with the reason.
NOT_OFFERED: Mapping[str, str] = {
    "megatron_config": "for Megatron's own layers",
    "megatron_core": "for Megatron's own layers",
    "runtime_config": "concerns the process, not the adapter",
    "arrow_config": "routes among adapters that were trained before",
    "loftq_config": "trains beside a quantised base that no low-rank update turns back into the base",
    "kasa_config": "cuts the base's smallest singular values away, which its checkpoint would have to repeat",
    "monteclora_config": "samples its weights anew in each forward pass",
    "use_qalora": "needs a GPTQ-quantised base",
    "qalora_group_size": "needs a GPTQ-quantised base",
    "layer_replication": "changes the base's depth",
    "fan_in_fan_out": "set from the layers' type",
    "total_step": "set from the length of the run",
    "progressbar": "concerns the process, not the adapter",
    "token_dim": "set from the base",
    "num_transformer_submodules": "set from the base",
    "num_attention_heads": "set from the base",
    "num_layers": "set from the base",
}
