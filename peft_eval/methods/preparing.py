"""Putting an adapter of peft's into a base, with a start from the training data where the method asks for one."""

from __future__ import annotations

import contextlib
import itertools
import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from peft_eval.checkpoint.architecture import task_type
from peft_eval.checkpoint.plain_lora import remember_start
from peft_eval.errors import ConfigError
from peft_eval.methods.catalogue import STARTS_FROM_DATA, offered, setting_errors
from peft_eval.methods.method import Course
from peft_eval.methods.presets import Preset
from peft_eval.methods.targets import ALL_LINEAR, is_regex, linear_shapes, matches

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


_EVA_BATCHES = 100  # enough where components settle at all; where none do, more do not help


def prepared(preset: Preset, model: PreTrainedModel, options: Any, *, base_id: str, course: Course | None) -> Any:
    """Returns the base as a `PeftModel` of a preset.

    Raises:
        ConfigError: peft refuses the settings or the base, or the start needs training data.
    """
    from peft import get_peft_model

    start = preset.pinned.get("init_lora_weights") or getattr(options, "init", "default")
    if start in STARTS_FROM_DATA and course is None:
        raise ConfigError(f"{start} starts from training data", place=f"--method {preset.name}")
    with _refusals(preset):
        config = peft_config(preset, model, options, steps=course.steps if course else None)
        if course is not None and start in ("corda", "lora_ga"):
            _look_at_data(start, model, config, _batches(model, options, course))
        adapted = get_peft_model(model, config)
        if course is not None and start == "eva":
            from peft import initialize_lora_eva_weights

            counting = adapted.register_forward_pre_hook(_settling_after(_EVA_BATCHES))
            initialize_lora_eva_weights(
                adapted,  # type: ignore[arg-type]
                _batches_for_eva(preset, config, list(_batches(model, options, course))),
                gather_distributed_inputs=False,
                show_progress_bar=False,
            )
            counting.remove()
    adapted.peft_config["default"].base_model_name_or_path = base_id
    _give_zero_outputs_a_direction(adapted)
    if preset.name == "lorafa":  # its optimiser does so too late: a run's state is read before there is one
        for name, weight in adapted.named_parameters():
            if "lora_A" in name:
                weight.requires_grad_(False)
    remember_start(adapted)
    return adapted


def peft_config(preset: Preset, model: PreTrainedModel, options: Any, *, steps: int | None) -> Any:
    """Returns peft's configuration for a preset's options as fitted to a base."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.tuners.lora.config import CordaConfig, EvaConfig, LoraGAConfig

    configs: dict[Any, Any] = PEFT_TYPE_TO_CONFIG_MAPPING
    cls = configs[preset.peft_type]
    values = {field.name: getattr(options, option) for option, field in offered(preset)}
    values |= {name: value for name, value in preset.pinned.items() if value is not None}
    targets = values.get("target_modules")
    if targets and (targets == [ALL_LINEAR] or is_regex(targets)):
        values["target_modules"] = targets[0]
    if "init_lora_weights" in values:
        start = values["init_lora_weights"]
        values["init_lora_weights"] = True if start == "default" else start
        for name, start_name, nested in (
            ("eva_config", "eva", EvaConfig),
            ("corda_config", "corda", CordaConfig),
            ("lora_ga_config", "lora_ga", LoraGAConfig),
        ):
            values[name] = nested(**(values.get(name) or {})) if start == start_name else None
    if preset.name == "krona":
        values |= _krona_sizes(model, options)
    if "fan_in_fan_out" in cls.__dataclass_fields__:
        values["fan_in_fan_out"] = _has_transposed(model, targets)
    if "progressbar" in cls.__dataclass_fields__:
        values["progressbar"] = False
    if preset.peft_type == "ADALORA":
        values["total_step"] = steps or 1_000_000
    return cls(task_type=task_type(model.config), **values)


def _krona_sizes(model: PreTrainedModel, options: Any) -> dict[str, Any]:
    """KronA's two factors are full matrices: LoKr with a rank that no factor reaches, and alpha / rank as its scale."""
    shapes = linear_shapes(model)
    names = {name for found in matches(model, options.targets).values() for name in found}
    rank = max(max(shapes[name]) for name in names if name in shapes)
    return {"r": rank, "alpha": rank * options.scale}


def _give_zero_outputs_a_direction(adapted: Any) -> None:
    """Lets DoRA train outputs whose weights are all zero, as trained bases have: its formula divides by their norm.

    The direction of such an output is W + B A with a row of B that is not zero. Its magnitude starts at the norm of W,
    zero, so the first step computes what the base computes.
    """
    import torch

    for layer in adapted.modules():
        for name, vector in getattr(layer, "lora_magnitude_vector", {}).items():
            zero = (vector.weight.detach().flatten() == 0).nonzero().flatten()
            if len(zero):
                with torch.no_grad():
                    up = layer.lora_B[name].weight
                    up[zero] = 1 / up.shape[1]


def _has_transposed(model: PreTrainedModel, targets: list[str] | None) -> bool:
    """Tells whether the targets' weights are (in, out), as GPT-2's are."""
    from transformers.pytorch_utils import Conv1D

    if not targets:
        return False
    modules = dict(model.named_modules())
    return any(isinstance(modules[name], Conv1D) for names in matches(model, targets).values() for name in names)


def _batches(model: PreTrainedModel, options: Any, course: Course) -> Iterator[dict[str, torch.Tensor]]:
    for batch in course.examples(options.start_examples):
        yield {name: tensor.to(model.device) for name, tensor in batch.items()}


def _settling_after(batches: int) -> Any:
    """Returns a hook that lets EVA take its components as they are after so many batches.

    peft goes on until each is almost what it was a batch before, which those of nearly equal weight may never be.
    """
    from peft.tuners.lora.eva import SVDHook

    seen = itertools.count(1)

    def relax(model: Any, *_: Any) -> None:
        if next(seen) > batches:
            for module in model.modules():
                for hook in module._forward_hooks.values():
                    if isinstance(hook, SVDHook):
                        hook.sim_thresh = -math.inf

    return relax


def _batches_for_eva(preset: Preset, config: Any, batches: list[dict[str, torch.Tensor]]) -> list[dict[str, Any]]:
    """Joins batches until each has as many learnt tokens as EVA computes components.

    peft leaves a smaller batch out, and goes round for ever where all of them are smaller.

    Raises:
        ConfigError: all of them together are too small.
    """
    ranks = [config.r, *(config.rank_pattern or {}).values()]
    needed = round(max(ranks) * config.eva_config.rho)
    joined: list[dict[str, Any]] = []
    waiting: list[dict[str, torch.Tensor]] = []
    for batch in batches:
        waiting.append(batch)
        if _learnt_tokens(waiting, config) >= needed:
            joined.append(_as_one(waiting))
            waiting = []
    if not joined:
        raise ConfigError(
            f"the examples that EVA starts from have {_learnt_tokens(waiting, config):,} learnt tokens, and it needs "
            f"rank x rho of them, {needed:,}",
            place=f"--method {preset.name}",
            remedy="raise --start-examples, or lower --rank",
        )
    return joined


def _learnt_tokens(batches: list[dict[str, torch.Tensor]], config: Any) -> int:
    eva = config.eva_config
    return sum(
        int(((b["labels"] != eva.label_mask_value) if eva.use_label_mask else b["attention_mask"]).sum())
        for b in batches
    )


def _as_one(batches: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Joins batches that are padded on the right."""
    import torch
    from torch.nn.functional import pad

    longest = max(batch["input_ids"].shape[1] for batch in batches)
    fill = {"labels": -100}
    return {
        name: torch.cat([pad(b[name], (0, longest - b[name].shape[1]), value=fill.get(name, 0)) for b in batches])
        for name in batches[0]
    }


def _look_at_data(start: str, model: Any, config: Any, batches: Iterator[dict[str, torch.Tensor]]) -> None:
    """Lets CorDA gather its layers' inputs and LoRA-GA its layers' gradients; neither trains anything."""
    import torch
    from peft.tuners.lora.corda import preprocess_corda
    from peft.tuners.lora.loraga import preprocess_loraga

    def run() -> None:
        for batch in batches:
            if start == "corda":  # whose hook takes one sequence at a time, without padding
                for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
                    with torch.no_grad():
                        model(input_ids=row[mask.bool()][None], use_cache=False)
            else:
                model(**batch, use_cache=False).loss.backward()

    if start == "corda":
        preprocess_corda(model, config, run_model=run)
    else:
        preprocess_loraga(model, config, run)
        model.zero_grad(set_to_none=True)


def optimizer(
    preset: Preset, model: Any, options: Any, *, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer | None:
    """Returns peft's optimiser for LoRA+ and LoRA-FA, None for AdamW."""
    import torch
    from peft.optimizers import create_lorafa_optimizer, create_loraplus_optimizer

    if preset.name == "loraplus":
        return create_loraplus_optimizer(
            model,
            torch.optim.AdamW,
            lr=learning_rate,
            loraplus_lr_ratio=options.lr_ratio,
            loraplus_lr_embedding=learning_rate,
            loraplus_weight_decay=weight_decay,
        )
    if preset.name == "lorafa":
        return create_lorafa_optimizer(
            model,
            r=options.rank,
            lora_alpha=options.alpha,
            lr=learning_rate,
            weight_decay=weight_decay,
            use_rslora=options.rslora,
        )
    return None


def penalty(preset: Preset, model: Any) -> torch.Tensor | None:
    """Returns AdaLoRA's regulariser, which peft adds only to a loss of the model's own.

    Its weight times the mean over all factors of the Frobenius norm of A Aᵀ - I and Bᵀ B - I (arXiv 2303.10512,
    equation 4).
    """
    import torch

    if preset.peft_type != "ADALORA":
        return None
    norms = []
    for name, weight in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            gram = weight @ weight.T if "lora_A" in name else weight.T @ weight
            norms.append(torch.linalg.norm(gram - torch.eye(len(gram), device=gram.device)))
    weight = model.peft_config["default"].orth_reg_weight
    return weight * torch.stack(norms).mean() if norms and not math.isclose(weight, 0) else None


_ALLOCATOR = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # what AdaLoRA's allocator remembers of each weight


def run_state(model: Any) -> dict[str, torch.Tensor]:
    """Returns what AdaLoRA needs to go on beside its weights: importances, and which ranks are left."""
    import torch

    allocator = model.base_model.rankallocator
    state = {f"{part}:{name}": value for part in _ALLOCATOR for name, value in getattr(allocator, part).items()}
    pattern = model.peft_config["default"].rank_pattern or {}
    state |= {f"rank:{name}": torch.tensor(kept) for name, kept in pattern.items()}
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def load_run_state(model: Any, state: dict[str, torch.Tensor]) -> None:
    """Puts back what `run_state` returned."""
    allocator = model.base_model.rankallocator
    device = next(model.parameters()).device
    pattern: dict[str, list[bool]] = {}
    for key, value in state.items():
        part, _, name = key.partition(":")
        if part == "rank":
            pattern[name] = value.tolist()
        else:
            getattr(allocator, part)[name] = value.to(device)
    model.peft_config["default"].rank_pattern = pattern or None


@contextlib.contextmanager
def _refusals(preset: Preset) -> Iterator[None]:
    """Turns peft's refusals into one line; a lack of memory and bugs of ours stay what they are."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ValueError, TypeError, NotImplementedError, AssertionError, AttributeError) as error:
        raise setting_errors(preset, error) from error
