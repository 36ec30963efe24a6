"""Signatures over a version's files, in the format of the OpenSSF's model signing, by its own library.

A key pair of NIST's curve P-256, P-384 or P-521 is made by openssl, which also says who the author is to believe:
`openssl ecparam -name prime256v1 -genkey -noout -out author.key; openssl ec -in author.key -pubout -out author.pub`.
Everything in the folder is signed but the signature itself and `zoo.json`, which has the signature's hash.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft_eval.errors import CheckpointError, ConfigError
from peft_eval.zoo.files import SIGNATURE_NAME
from peft_eval.zoo.records import RECORD_NAME


def sign(folder: Path, *, key: Path) -> None:
    """Writes `model.sig` into a folder.

    Args:
        folder: the files.
        key: a private key in PEM, without a password.

    Raises:
        ConfigError: the library is not installed, or this is no such key.
    """
    library = _library()
    try:
        config = library.signing.Config().use_elliptic_key_signer(private_key=key)
        config.set_hashing_config(_hashing(library, folder)).sign(folder, folder / SIGNATURE_NAME)
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError(f"not a private key to sign with: {_line(error)}", place=str(key), remedy=_KEYS) from error


def check_signature(folder: Path, key: Path) -> None:
    """Holds a folder's files against its `model.sig`.

    Args:
        folder: the files.
        key: a public key in PEM.

    Raises:
        ConfigError: the library is not installed, or this is no such key.
        CheckpointError: another key's signature, or other files than were signed.
    """
    library = _library()
    try:
        verifier = library.verifying.Config().use_elliptic_key_verifier(public_key=key)
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError(f"not a public key: {_line(error)}", place=str(key), remedy=_KEYS) from error
    try:
        verifier.set_hashing_config(_hashing(library, folder)).verify(folder, folder / SIGNATURE_NAME)
    except Exception as error:  # the library raises what its parsers and its cryptography raise
        raise CheckpointError(
            f"not the signature of this key over these files: {_line(error)}", place=str(folder), remedy="do not use it"
        ) from error


_KEYS = "PEM, curve P-256, P-384 or P-521; see docs/zoo.md"


def _library() -> Any:
    try:
        import model_signing
    except ImportError as error:
        raise ConfigError(
            "signatures need a package that is not installed", remedy="pip install 'peft-eval[sign]'"
        ) from error
    return model_signing


def _hashing(library: Any, folder: Path) -> Any:
    ignored = [folder / SIGNATURE_NAME, folder / RECORD_NAME]
    return library.hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
