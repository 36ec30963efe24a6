"""Where a judge is reached: an OpenAI-compatible address, a model's name and a key that is written nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from peft_eval.errors import ConfigError, PeftEvalError, raise_all

KEY_VARIABLE = "PEFT_EVAL_JUDGE_KEY"
# Sent to OpenAI itself and to nobody else.
OPENAI_KEY_VARIABLE = "OPENAI_API_KEY"
OPENAI_HOST = "api.openai.com"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A judge's address.

    Attributes:
        url: base address as OpenAI clients take it, with its `/v1`.
        model: the name to ask for.
        identity: under which its answers are cached; two judges that may answer differently never share one.
        key: sent as the bearer token; in no `repr`, result, log or cache.
    """

    url: str
    model: str
    identity: str
    key: str = field(default="", repr=False)

    def address(self) -> Endpoint:
        """Returns the judge's address: itself."""
        return self


@dataclass(slots=True)
class LaterEndpoint:
    """A judge that is started once there is something to ask it.

    Attributes:
        model: the name to ask for.
        identity: under which its answers are cached.
        start: starts it and returns its address.
    """

    model: str
    identity: str
    start: Callable[[], Endpoint]
    _started: Endpoint | None = None

    def address(self) -> Endpoint:
        """Returns the judge's address, and starts it the first time."""
        if self._started is None:
            self._started = self.start()
        return self._started


def refuse_keys(metadata: Mapping[str, Any]) -> None:
    """Refuses a key among settings that lm-eval writes into its results.

    Raises:
        ConfigError: a metadata name that says key, token, secret or password; its value is not repeated.
    """
    for name in metadata:
        words = str(name).lower().split("_")
        if "judge" in words and {"key", "token", "secret", "password"} & set(words):
            raise ConfigError(
                f"{name} would be written into the results",
                place="--metadata",
                remedy=f"leave it out and set {KEY_VARIABLE} in the environment",
            )


def endpoint_at(url: str, model: str | None, environment: Mapping[str, str] = os.environ) -> Endpoint:
    """Returns the judge at an address, with its key from the environment.

    Args:
        url: `http://` or `https://` address.
        model: name of the model there.
        environment: where `PEFT_EVAL_JUDGE_KEY` is looked up; `OPENAI_API_KEY` for OpenAI's own address.

    Raises:
        ConfigError: no address, a key in the address, or no model.
        ManyErrors: several of these.
    """
    parts = urlsplit(str(url))
    errors: list[PeftEvalError] = []
    if parts.username or parts.password or parts.query:
        errors.append(
            ConfigError(
                "the address carries a key or query, which would be written into the results",
                place="--metadata judge_url",
                remedy=f"give the bare address and set {KEY_VARIABLE} in the environment",
            )
        )
    elif parts.scheme not in ("http", "https") or not parts.hostname:
        errors.append(
            ConfigError(
                f"{str(url)!r} is no address", place="--metadata judge_url", remedy="e.g. http://127.0.0.1:8000/v1"
            )
        )
    if not model:
        errors.append(
            ConfigError("no model is named", place="--metadata judge_model", remedy="give the judge's model name")
        )
    raise_all(errors)
    key = environment.get(KEY_VARIABLE, "")
    if not key and parts.hostname == OPENAI_HOST:
        key = environment.get(OPENAI_KEY_VARIABLE, "")
    address = str(url).rstrip("/")
    return Endpoint(url=address, model=str(model), identity=f"{address} {model}", key=key)
