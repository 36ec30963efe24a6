"""From lm_eval's `--model_args` and its own options to the arguments of a model class."""

from __future__ import annotations

from typing import Any

from lm_eval.utils import simple_parse_args_string


class ModelArguments:
    """Mixed into lm-eval's model classes: what `--model_args` say goes before options such as `--device`."""

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Any:
        """Creates the model from lm_eval's `--model_args`; see `create_from_arg_obj`."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> Any:
        """Creates the model from arguments and lm_eval's own options, of which those that are None do not count."""
        others = {name: value for name, value in (additional_config or {}).items() if value is not None}
        return cls._create(others | arg_dict)

    @classmethod
    def _create(cls, given: dict[str, Any]) -> Any:
        return cls(**given)
