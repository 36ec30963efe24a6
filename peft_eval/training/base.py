"""Loading the base model and its tokenizer, safely: safetensors only, no code from the folder."""

from __future__ import annotations

import copy
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_eval.checkpoint.architecture import generates_text, is_encoder_decoder, model_class, read_config
from peft_eval.checkpoint.hashing import TOKENIZER_FILES
from peft_eval.checkpoint.location import pinned, resolve_folder
from peft_eval.checkpoint.manifest import QuantizationRecord
from peft_eval.checkpoint.vetting import vet_folder
from peft_eval.errors import CheckpointError, ConfigError
from peft_eval.training.spec import TrainSpec

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_COMMIT = re.compile(r"[0-9a-f]{40}")
DOUBLE_QUANTIZATION = True  # as QLoRA does


@dataclass(frozen=True)
class Base:
    """A base model on disk.

    Attributes:
        location: as the manifest names it: the hub id or `zoo:` name as given, else an absolute path.
        folder: where its files are.
        revision: the hub commit or the zoo's version, None for a folder.
        config: the model's configuration.
    """

    location: str
    folder: Path
    revision: str | None
    config: Any

    @property
    def context(self) -> int | None:
        """The longest sequence the model was made for, in tokens; None if it does not say."""
        return getattr(self.config.get_text_config(), "max_position_embeddings", None)

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the prompt and a decoder writes the answer."""
        return is_encoder_decoder(self.config)

    @property
    def adapter_base_id(self) -> str:
        """What `adapter_config.json` names as the base: the hub id, else an absolute path."""
        return str(self.folder.resolve()) if self.location.startswith("zoo:") else self.location


def find_base(spec: TrainSpec) -> Base:
    """Finds the base model's files and reads its configuration.

    Raises:
        CheckpointError: there is no such base, or its weights are not safetensors.
        ConfigError: it does not generate text.
    """
    folder = resolve_folder(spec.base, revision=spec.base_revision)
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError("this is an adapter, not a base model", place=spec.base, remedy="name the base itself")
    vet_folder(folder)
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(
            "there are no weights (*.safetensors); pickled weights are refused, since loading them can run code",
            place=spec.base,
            remedy="save the base with safe_serialization=True",
        )
    config = read_config(folder)
    if not generates_text(config):
        raise ConfigError(f"a {config.model_type} is not a language model that generates text", place=spec.base)
    in_zoo = pinned(spec.base, spec.base_revision)
    is_folder = in_zoo is None and Path(spec.base).expanduser().is_dir()
    revision: str | None
    if in_zoo:
        revision = in_zoo.partition("@")[2]
    else:
        revision = folder.name if _COMMIT.fullmatch(folder.name) and not is_folder else None
    location = str(folder.resolve()) if is_folder else spec.base.partition("@")[0]
    return Base(location=location, folder=folder, revision=revision, config=config)


def load_tokenizer(base: Base) -> PreTrainedTokenizerBase:
    """Loads the base's tokenizer.

    Raises:
        CheckpointError: there is none.
        ConfigError: it has no EOS token, without which answers cannot end.
    """
    from transformers import AutoTokenizer

    if not any((base.folder / name).is_file() for name in TOKENIZER_FILES):
        raise CheckpointError("the base has no tokenizer", place=str(base.folder))
    tokenizer = AutoTokenizer.from_pretrained(str(base.folder), trust_remote_code=False)
    if tokenizer.eos_token_id is None:
        raise ConfigError("the tokenizer has no EOS token, so answers could not end", place=str(base.folder))
    return tokenizer


def on_cpu() -> bool:
    """Tells whether there is no accelerator, so that processes must talk over gloo."""
    import torch

    return not torch.accelerator.is_available()


def arithmetic(spec: TrainSpec) -> torch.dtype:
    """Returns the precision of the arithmetic: bfloat16 where `auto` finds a GPU that has it."""
    import torch

    if spec.dtype == "auto":
        return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32
    return getattr(torch, spec.dtype)


def check_kernels(spec: TrainSpec) -> None:
    """Refuses kernels that cannot run here.

    Raises:
        ConfigError: Liger's are asked for, and there is no GPU or no such package.
    """
    if not spec.use_liger_kernel:
        return
    if on_cpu():
        raise ConfigError("Liger's kernels need a GPU", place="--use-liger-kernel", remedy="leave it out")
    if importlib.util.find_spec("liger_kernel") is None:
        raise ConfigError(
            "liger-kernel is not installed", place="--use-liger-kernel", remedy="pip install liger-kernel"
        )


def load_model(base: Base, dtype: torch.dtype, quantize: str = "none") -> PreTrainedModel:
    """Loads the base's weights in a given precision.

    Args:
        base: the base.
        dtype: dtype of the weights, and of the arithmetic where they are quantised.
        quantize: `nf4` or `fp4` keeps linear weights in 4 bits.

    Raises:
        CheckpointError: weights are missing, superfluous, damaged or of the wrong shape.
        ConfigError: bitsandbytes is not installed.
    """
    from safetensors import SafetensorError

    quantised = {} if quantize == "none" else _quantised(quantize, dtype)
    try:
        loaded: Any = model_class(base.config).from_pretrained(
            str(base.folder),
            config=copy.deepcopy(base.config),  # the Trainer changes its model's
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **quantised,
        )
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"the base's weights cannot be loaded: {reason}", place=str(base.folder)) from error
    model, report = loaded
    for fault in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        found = sorted(str(key) for key in report.get(fault) or ())
        if found:
            raise CheckpointError(
                f"the base's weights do not fit its config, {len(found)} {fault.replace('_', ' ')}: "
                + ", ".join(found[:5]),
                place=str(base.folder),
            )
    return model


def _quantised(scheme: str, dtype: torch.dtype) -> dict[str, Any]:
    from accelerate import PartialState
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "bitsandbytes is not installed", place=f"--quantize {scheme}", remedy="pip install peft-eval[qlora]"
        )
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=scheme,
        bnb_4bit_use_double_quant=DOUBLE_QUANTIZATION,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": PartialState().device}}


def quantization_of(model: torch.nn.Module, spec: TrainSpec) -> QuantizationRecord | None:
    """Returns how a loaded model was quantised, for the manifest."""
    if spec.quantize == "none":
        return None
    import bitsandbytes
    import torch

    kept = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not isinstance(module, bitsandbytes.nn.Linear4bit)
    ]
    dtype: Any = str(arithmetic(spec)).removeprefix("torch.")
    return QuantizationRecord(scheme=spec.quantize, double=DOUBLE_QUANTIZATION, dtype=dtype, kept_modules=kept)
