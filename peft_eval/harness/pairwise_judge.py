"""The judge that `--metadata judge_...` describes: an endpoint, or a model served here while it judges."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from peft_eval.errors import ConfigError, JudgeError, RouteError
from peft_eval.judging.answer_store import default_store
from peft_eval.judging.asking import CONCURRENCY, check
from peft_eval.judging.endpoint import Endpoint, LaterEndpoint, endpoint_at
from peft_eval.judging.pairwise import DEFAULT_CONFIG, check_judge, read_annotations


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """What the metadata say about a judge.

    Attributes:
        url: address of an endpoint; None serves `model` here.
        model: name at the endpoint, or folder or hub id to serve.
        config: name or folder of an alpaca-eval annotator's config.
        annotations: file of annotations known already, or None.
        cache: file of the judge's answers.
        concurrency: questions on their way at a time.
        server_arguments: more options for `vllm serve`.
    """

    url: str | None
    model: str | None
    config: str
    annotations: Path | None
    cache: Path
    concurrency: int
    server_arguments: str

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> JudgeSettings:
        """Reads the settings that begin with `judge_`, and `alpaca_annotations`.

        Raises:
            ConfigError: a concurrency that is no positive number, or options for a server that is not ours.
        """
        url, model = metadata.get("judge_url"), metadata.get("judge_model")
        arguments = str(metadata.get("judge_args", ""))
        if arguments and (url or not model):
            raise ConfigError(
                "they are for a judge that is served here",
                place="--metadata judge_args",
                remedy="leave out judge_url and give judge_model=PATH_OR_ID",
            )
        concurrency = str(metadata.get("judge_concurrency", CONCURRENCY))
        if not concurrency.isdecimal() or int(concurrency) < 1:
            raise ConfigError(f"{concurrency!r} is no positive number", place="--metadata judge_concurrency")
        stored, cache = metadata.get("alpaca_annotations"), metadata.get("judge_cache")
        return cls(
            url=str(url) if url else None,
            model=str(model) if model else None,
            config=str(metadata.get("judge_config", DEFAULT_CONFIG)),
            annotations=Path(stored).expanduser() if stored else None,
            cache=Path(cache).expanduser() if cache else default_store(),
            concurrency=int(concurrency),
            server_arguments=arguments,
        )

    @property
    def serves_here(self) -> bool:
        """Whether the judge is a model that is served on this machine while it judges."""
        return bool(self.model and not self.url)

    def check(self) -> None:
        """Makes sure before the first answer that the judge is there; a local one is started only when it is needed.

        Raises:
            ConfigError: nobody is named to judge, or the judge's config cannot be used.
            JudgeError: the endpoint does not answer or refuses the key.
            DataError: the file of annotations cannot be read.
        """
        check_judge(self.config)
        if self.annotations:
            read_annotations(self.annotations)
        if self.url:
            check(endpoint_at(self.url, self.model))
        elif not self.model and not self.annotations:
            raise ConfigError(
                "no judge is named",
                place="--metadata",
                remedy="give judge_url=URL judge_model=NAME, or judge_model=PATH_OR_ID to serve one here, or "
                "alpaca_annotations=FILE; or --predict_only and judge later with --model saved-answers",
            )

    @contextlib.contextmanager
    def open(self, task: str) -> Iterator[Endpoint | LaterEndpoint | None]:
        """Gives the judge's endpoint, None if there are only stored annotations.

        A model that is served here is started when the first question is put to it, and stopped at the end.

        Args:
            task: for the name of a local server's log.

        Raises:
            JudgeError: a local server does not start.
        """
        if self.url:
            yield endpoint_at(self.url, self.model)
        elif self.model:
            log = user_cache_path("peft_eval") / "judge" / f"vllm-serve-{task}.log"
            identity = f"{weights_identity(self.model)} {self.server_arguments}".strip()
            with contextlib.ExitStack() as stack:
                yield LaterEndpoint(Path(self.model).name, identity, lambda: self._serve(stack, log, identity))
        else:
            yield None

    def _serve(self, stack: contextlib.ExitStack, log: Path, identity: str) -> Endpoint:
        from peft_eval.serving.server import serve

        assert self.model is not None
        try:
            server = stack.enter_context(serve(self.model, log, self.server_arguments))
        except RouteError as error:
            raise JudgeError(error.problem, place=error.place, remedy=error.remedy) from error
        return Endpoint(server.url, server.model, identity, server.key)


def weights_identity(model: str) -> str:
    """Returns what tells a local judge's weights apart: a hub id as it is, a folder by its files' names, sizes, times.

    Hashing the weights themselves would take minutes for a large judge.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return model
    files = sorted(path for path in folder.iterdir() if path.is_file())
    text = "\n".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)
    return f"{folder.resolve()} {hashlib.sha256(text.encode()).hexdigest()}"
