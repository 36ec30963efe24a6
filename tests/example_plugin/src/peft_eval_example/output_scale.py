"""A method with a tuner of its own: the options and the method here, what needs torch in `output_scale_tuner`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from peft_eval.methods.method import MethodOptions
from peft_eval.methods.tuner import Tuner


class OutputScaleOptions(MethodOptions):
    """Options of `output-scale`."""

    targets: list[str] = Field(["down_proj"], description="Linear layers to scale, by the end of their names.")


class OutputScale:
    """Trains a factor for each output of chosen layers."""

    name = "output-scale"
    summary = "a trained factor for each output"
    options: type[MethodOptions] = OutputScaleOptions
    kind = "adapter"
    training_defaults = {"learning_rate": 1e-2, "weight_decay": 0.0, "scheduler": "constant", "warmup_ratio": 0.0}
    tuners = (
        Tuner(
            peft_type="EXAMPLE_OUTPUT_SCALE",
            config="peft_eval_example.output_scale_tuner:OutputScaleConfig",
            model="peft_eval_example.output_scale_tuner:OutputScaleModel",
            prefix="output_scale",
        ),
    )

    def fit(self, model: Any, options: OutputScaleOptions) -> OutputScaleOptions:
        """Returns the options: they do not depend on the base."""
        return options

    def adapter_config(self, model: Any, options: OutputScaleOptions) -> Any:
        """Returns the peft configuration, by which the method can also be part of `lora+output-scale`."""
        from peft_eval_example.output_scale_tuner import OutputScaleConfig

        return OutputScaleConfig(target_modules=options.targets, task_type="CAUSAL_LM")

    def prepare(self, model: Any, options: OutputScaleOptions, *, base_id: str) -> Any:
        """Returns the base as a `PeftModel` whose factors are trained."""
        from peft import get_peft_model

        adapted = get_peft_model(model, self.adapter_config(model, options))
        adapted.peft_config["default"].base_model_name_or_path = base_id
        return adapted
