"""What a training run is: every setting, typed, with its default written once, here.

The defaults are those of the author of arXiv 2411.16775 (PROTOCOLS A2). Where his value depends on
the method, the field's default is None and the method's `training_defaults` fill it in.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from peft_eval import plugins

WHAT, DATA, OPTIMISATION, MACHINE = "What to train", "Data", "Optimisation", "Machine"
# Settings that do not change the trained weights: a run may be resumed with others.
NOT_IN_THE_RESULT = frozenset({"output", "save_every_steps", "keep_checkpoints"})


def _field(group: str, description: str, default: Any = ..., **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"group": group}, **limits)


class TrainSpec(BaseModel):
    """One training run.

    `options` holds the method's own options (rank, ...), which are options of the command and keys
    of the TOML file like any other. Every other field is described where it is defined.

    Raises:
        ConfigError: the method does not exist.
        pydantic.ValidationError: a value does not fit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    base: str = _field(WHAT, "Base model: a folder, zoo:NAME or a hub id.", min_length=1)
    base_revision: str | None = _field(WHAT, "The base's revision on the hub.", None)
    quantize: Literal["none", "nf4", "fp4"] = _field(
        WHAT, "Train on the base with its linear weights in 4 bits, scales quantised too (QLoRA).", "none"
    )
    method: str = _field(WHAT, "Training method; `peft-eval methods` lists them.", "lora")
    data: str = _field(WHAT, "Training data, NAME[:LOCATION], e.g. superni:DIR.", min_length=1)
    output: str = _field(WHAT, "Folder for the checkpoint.", min_length=1)

    tasks: int | None = _field(DATA, "Number of tasks, drawn with --data-seed. Default: all.", None, ge=1)
    instances_per_task: int | None = _field(
        DATA, "At most so many instances of each task. Default: 100, and all of messages.", None, ge=1
    )
    encoding: str = _field(DATA, "Prompt encoding, e.g. def or def_pos2.", "def")
    template: Literal["auto", "plain", "tulu", "tokenizer"] = _field(
        DATA,
        "How turns become text. auto: plain for prompts; for conversations the base's own chat template, else tulu.",
        "auto",
    )
    data_seed: int = _field(DATA, "Seed of the draw of tasks and instances.", 42)
    max_source_tokens: int = _field(DATA, "Longer prompts are cut on the right, and counted.", 1024, ge=1)
    max_target_tokens: int = _field(DATA, "Longer answers are cut on the right, and counted.", 128, ge=1)
    max_conversation_tokens: int = _field(
        DATA, "With a chat template: longer texts are cut on the right, and counted.", 2048, ge=1
    )

    learning_rate: float | None = _field(OPTIMISATION, "Peak learning rate of AdamW.", None, gt=0)
    scheduler: Literal["linear", "cosine", "constant"] | None = _field(
        OPTIMISATION, "Course of the learning rate after the warm-up.", None
    )
    warmup_ratio: float | None = _field(OPTIMISATION, "Share of the steps that warm up.", None, ge=0, lt=1)
    weight_decay: float | None = _field(OPTIMISATION, "AdamW's weight decay.", None, ge=0)
    max_grad_norm: float = _field(OPTIMISATION, "Gradients are clipped to this norm; 0 never clips.", 1.0, ge=0)
    epochs: float | None = _field(OPTIMISATION, "Passes over the data.", 4.0, gt=0)
    max_steps: int | None = _field(OPTIMISATION, "Number of steps, instead of epochs.", None, ge=1)
    batch_size: int = _field(OPTIMISATION, "Examples a step, over all processes.", 16, ge=1)
    seed: int = _field(OPTIMISATION, "Seed of the weights, dropout and order.", 42)

    micro_batches: int = _field(MACHINE, "Parts that a step's batch is computed in, by length.", 4, ge=1)
    packing: bool = _field(MACHINE, "Pack examples into one row (no cross-talk) instead of padding.", False)
    dtype: Literal["auto", "float32", "bfloat16"] = _field(
        MACHINE, "Precision of the arithmetic; auto is bfloat16 on a GPU, float32 on a CPU.", "auto"
    )
    save_dtype: Literal["auto", "float32", "bfloat16"] = _field(
        MACHINE, "Precision of saved full weights; auto is the base's own.", "auto"
    )
    gradient_checkpointing: bool = _field(MACHINE, "Trade a third of the speed for memory.", False)
    torch_compile: bool = _field(MACHINE, "Compile the model with torch.compile; pays in long runs.", False)
    use_liger_kernel: bool = _field(MACHINE, "Fused kernels of the package liger-kernel; on a GPU.", False)
    save_every_steps: int = _field(MACHINE, "Steps between states that --resume continues from; 0: none.", 500, ge=0)
    keep_checkpoints: int = _field(
        MACHINE, "So many checkpoints on the way are kept too, evenly spaced, in OUTPUT-steps/.", 0, ge=0
    )

    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Lets `max_steps` replace the epochs and the method give its own defaults."""
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        if filled.get("max_steps") is not None and filled.get("epochs") is None:
            filled["epochs"] = None
        elif filled.get("max_steps") is not None:
            raise ValueError("epochs and max_steps exclude each other: give one of them")
        method = plugins.pick("method", filled.get("method", cls.model_fields["method"].default), plugins.methods())
        for key, value in method.training_defaults.items():
            if filled.get(key) is None:
                filled[key] = value
        filled["options"] = method.options.model_validate(filled.get("options") or {}).model_dump()
        return filled

    @model_validator(mode="after")
    def _has_a_length(self) -> TrainSpec:
        if self.epochs is None and self.max_steps is None:
            raise ValueError("neither epochs nor max_steps is given")
        return self

    def flat(self) -> dict[str, Any]:
        """Returns every setting by its key in a TOML file, the method's options among them."""
        values = self.model_dump(mode="json")
        options = values.pop("options")
        return {**values, **options}

    def decisive(self) -> dict[str, Any]:
        """Returns the settings that the trained weights depend on."""
        return {key: value for key, value in self.flat().items() if key not in NOT_IN_THE_RESULT}


def spec_fields() -> dict[str, Any]:
    """Returns the fields that are options and config keys, by name."""
    return {name: field for name, field in TrainSpec.model_fields.items() if name != "options"}
