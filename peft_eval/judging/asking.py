"""Puts questions to a judge: what is cached is not asked, the rest many at a time, with retries and a progress bar."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from peft_eval.errors import JudgeError
from peft_eval.judging.answer_store import AnswerStore, question_hash
from peft_eval.judging.endpoint import KEY_VARIABLE, Endpoint, LaterEndpoint

if TYPE_CHECKING:
    import openai

logger = logging.getLogger(__name__)

CONCURRENCY = 16
# The client waits 0.5, 1, 2, 4, 8, 8, ... seconds (with jitter), or as long as the judge's Retry-After says.
RETRIES = 6
ANSWER_SECONDS = 600
CHECK_SECONDS = 20

Question = Mapping[str, Any]


def check(endpoint: Endpoint) -> None:
    """Makes sure that a judge can be reached and takes the key, before an hour is spent on answers to judge.

    Raises:
        JudgeError: nobody answers there, or the key is refused. A judge that does not list its models passes.
    """
    import openai

    with _client(endpoint, retries=1, seconds=CHECK_SECONDS) as client:
        try:
            client.models.list()
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.APIConnectionError) as error:
            raise _judge_error(endpoint, error) from None
        except openai.OpenAIError as error:
            logger.info("%s does not list its models (%s)", endpoint.url, type(error).__name__)


def ask(
    judge: Endpoint | LaterEndpoint,
    questions: Sequence[Question],
    store: AnswerStore,
    *,
    concurrency: int = CONCURRENCY,
    retries: int = RETRIES,
) -> list[dict[str, Any] | None]:
    """Returns a judge's answer to each question.

    Args:
        judge: whom to ask; one that is started later is started if an answer is missing.
        questions: bodies for `/chat/completions` (with `messages`) or `/completions` (with `prompt`), without `model`.
        store: answers known already; new ones are put there one by one.
        concurrency: questions on their way at a time.
        retries: of a question after a lost connection, a time-out, or a status 408, 409, 429 or 5xx.

    Returns:
        The first choice of each answer as the endpoint sent it; None where the judge refused the question itself
        (status 400 or 422: too long, or filtered).

    Raises:
        JudgeError: the key is refused, the model is unknown, the judge stays away, or it refuses every question. What
            was answered until then is in the store.
    """
    names = [question_hash(judge.identity, question) for question in questions]
    answers: dict[str, dict[str, Any] | None] = {name: store.get(name) for name in dict.fromkeys(names)}
    missing = {name: question for name, question in zip(names, questions, strict=True) if answers[name] is None}
    refusals: list[str] = []
    if missing:
        logger.info(
            "%d of %d judgements are cached; asking %s for the rest",
            len(answers) - len(missing),
            len(answers),
            judge.model,
        )
        endpoint = judge.address()
        with _client(endpoint, retries=retries, seconds=ANSWER_SECONDS) as client:
            for name, answer in _answers(client, endpoint, missing, concurrency):
                if isinstance(answer, str):
                    refusals.append(answer)
                else:
                    store.put(name, answer)
                    answers[name] = answer
    if refusals and len(refusals) == len(missing):
        raise JudgeError(
            f"the judge refused every question: {refusals[0]}",
            place=f"{judge.address().url}, model {judge.model}",
            remedy="see that the model is served with a chat template and a context that holds the questions",
        )
    if refusals:
        logger.warning("the judge refused %d questions, e.g. %s", len(refusals), refusals[0])
    return [answers[name] for name in names]


def _answers(
    client: openai.OpenAI, endpoint: Endpoint, missing: Mapping[str, Question], concurrency: int
) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Yields the answers as they come; a text is a refusal."""
    executor = ThreadPoolExecutor(concurrency, thread_name_prefix="judge")
    try:
        with tqdm(total=len(missing), desc="judging", unit="answer") as bar:
            waiting: dict[Future[dict[str, Any] | str], str] = {}
            rest = iter(missing.items())
            error: BaseException | None = None
            while True:
                for name, question in () if error else rest:
                    waiting[executor.submit(_answer, client, endpoint, question)] = name
                    if len(waiting) == concurrency:
                        break
                if not waiting:
                    break
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    name = waiting.pop(future)
                    # After an error nothing more is asked, but what is under way may still be answered, and was paid.
                    error = error or future.exception()
                    if future.exception() is None:
                        bar.update()
                        yield name, future.result()
            if error is not None:
                raise error
    finally:
        # Only an interruption leaves any under way; the closed client ends them.
        executor.shutdown(wait=False, cancel_futures=True)


def _answer(client: openai.OpenAI, endpoint: Endpoint, question: Question) -> dict[str, Any] | str:
    import openai

    create: Any = client.chat.completions.create if "messages" in question else client.completions.create
    try:
        completion = create(model=endpoint.model, **question)
    except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
        return _reason(endpoint, error)
    except openai.OpenAIError as error:
        raise _judge_error(endpoint, error) from None
    if not getattr(completion, "choices", None):
        raise JudgeError("its answer has no choices: is this an OpenAI-compatible API?", place=endpoint.url)
    return completion.choices[0].model_dump(mode="json")


@contextmanager
def _client(endpoint: Endpoint, *, retries: int, seconds: float) -> Iterator[openai.OpenAI]:
    import openai

    # A key has to be there, and an organisation of the environment is OpenAI's business alone.
    client = openai.OpenAI(
        base_url=endpoint.url, api_key=endpoint.key or "none", organization="", max_retries=retries, timeout=seconds
    )
    # Each request is a line of theirs at INFO, which lm-eval shows.
    loggers = {talker: talker.level for talker in map(logging.getLogger, ("httpx", "httpx2", "openai"))}
    for talker in loggers:
        talker.setLevel(logging.WARNING)
    try:
        yield client
    finally:
        client.close()
        for talker, level in loggers.items():
            talker.setLevel(level)


def _judge_error(endpoint: Endpoint, error: openai.OpenAIError) -> JudgeError:
    import openai

    place = f"{endpoint.url}, model {endpoint.model}"
    if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
        given = "the key was refused" if endpoint.key else "it asks for a key"
        return JudgeError(f"{given} (status {error.status_code})", place=place, remedy=f"set {KEY_VARIABLE}")
    if isinstance(error, openai.NotFoundError):
        return JudgeError(
            f"not found: {_reason(endpoint, error)}", place=place, remedy="correct judge_url or judge_model"
        )
    if isinstance(error, openai.APITimeoutError):
        return JudgeError("no answer in time", place=place, remedy="run it again: only what is missing is asked")
    if isinstance(error, openai.APIConnectionError):
        return JudgeError(
            "nobody answers there",
            place=place,
            remedy="start the judge and run it again: only what is missing is asked",
        )
    return JudgeError(_reason(endpoint, error), place=place, remedy="run it again: only what is missing is asked")


def _reason(endpoint: Endpoint, error: openai.OpenAIError) -> str:
    """Returns an error's text in one line, without the key, which some endpoints repeat."""
    text = " ".join(str(error).split())
    if endpoint.key:
        text = text.replace(endpoint.key, "[key]")
    return text[:300]
