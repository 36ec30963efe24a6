"""Keeps libraries off the screen; itself light, since some of them speak as soon as they are imported."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

from transformers.utils import logging as transformers_logging


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the libraries' bars, warnings and log lines off the screen, errors excepted."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    others = {
        name: logging.getLogger(name).level for name in ("accelerate", "peft", "torch.distributed", "bitsandbytes")
    }
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in others:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
        for name, level in others.items():
            logging.getLogger(name).setLevel(level)
