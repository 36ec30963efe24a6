"""A zoo elsewhere: a folder, or an address that fsspec has a protocol for; http and https can be read alone."""

from __future__ import annotations

import shutil
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from peft_eval.checkpoint.zoo_index import (
    INDEX_NAME,
    LATEST,
    parse_entries,
    split_name,
    version_named,
)
from peft_eval.data.download import download, without_secrets
from peft_eval.errors import CheckpointError, ConfigError, DataError, PeftEvalError, unknown_name
from peft_eval.zoo.http_read import read_over_http
from peft_eval.zoo.records import RECORD_NAME, VersionRecord, parse_record

HUB = "hf:"
_BLOCK_BYTES = 1 << 22
_MOST_BYTES = 1 << 27  # of an index or a record
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "ssh": "sshfs",
    "sftp": "sshfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}
_READ_ONLY = ("http", "https")
_SSH = ("ssh", "sftp")


class Remote:
    """The files of a zoo elsewhere, by their path below its address.

    Args:
        address: a folder or an address.
    """

    def __init__(self, address: str):
        self.address = address.rstrip("/")
        self.place = without_secrets(self.address)
        self.protocol = address.partition("://")[0] if "://" in address else "file"

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of this machine."""
        return self.protocol == "file"

    @property
    def folder(self) -> Path:
        """The folder, where it is one of this machine."""
        return Path(self.address.removeprefix("file://")).expanduser()

    def check_writable(self) -> None:
        """Refuses an address that can be read alone.

        Raises:
            ConfigError: it is http.
        """
        if self.protocol in _READ_ONLY:
            raise ConfigError("an http address can only be read", place=self.place, remedy="push to s3://, ssh:// ...")

    def read(self, path: str) -> bytes | None:
        """Returns a small file's bytes, None if there is none.

        Raises:
            CheckpointError: it cannot be read.
        """
        try:
            if self.is_folder:
                return self._local(path).read_bytes()
            if self.protocol in _READ_ONLY:
                content = read_over_http(f"{self.address}/{path}", most_bytes=_MOST_BYTES)
                if content is None:
                    return None
            else:
                with self._system.open(self._at(path), "rb") as file:
                    content = bytes(file.read(_MOST_BYTES + 1))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PeftEvalError:
            raise
        except Exception as error:  # every protocol's client raises types of its own
            raise self._failed(path, error) from error
        if len(content) > _MOST_BYTES:
            raise CheckpointError(f"{path} has more than {_MOST_BYTES:,} bytes", place=self.place)
        return content

    def size(self, path: str) -> int | None:
        """Returns a file's size in bytes, None if there is none.

        Raises:
            CheckpointError: it cannot be asked for.
        """
        try:
            return int(self._system.size(self._at(path)))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failed(path, error) from error

    def fetch(self, path: str, target: Path, most_bytes: int) -> None:
        """Fetches a file, going on after what is there of it where the protocol can; whether it is right, a hash tells.

        Args:
            path: its path.
            target: where it goes.
            most_bytes: its size; no more is taken.

        Raises:
            CheckpointError: it is not there or cannot be read; what came stays.
        """
        try:
            if self.is_folder:
                shutil.copyfile(self._local(path), target)
            elif self.protocol in _READ_ONLY:
                self._download(path, target, most_bytes)
            else:
                opened = self._system.open(self._at(path), "rb", block_size=_BLOCK_BYTES)
                with opened as source, target.open("ab") as file:
                    source.seek(file.tell())
                    while (block := source.read(_BLOCK_BYTES)) and file.tell() <= most_bytes:
                        file.write(block)
        except PeftEvalError:
            raise
        except Exception as error:
            raise self._failed(path, error) from error

    def send(self, source: Path, path: str) -> None:
        """Sends a file.

        Raises:
            CheckpointError: it cannot be written.
        """
        if self.protocol in _READ_ONLY:
            raise ConfigError("an http address can only be read", place=self.place, remedy="push to s3://, ssh:// ...")
        try:
            self._system.makedirs(str(PurePosixPath(self._at(path)).parent), exist_ok=True)
            if self.protocol in _SSH:  # writes in place, where an object store shows whole objects alone
                self._system.put_file(str(source), self._at(f"{path}.part"))
                self._system.mv(self._at(f"{path}.part"), self._at(path))
            else:
                self._system.put_file(str(source), self._at(path))
        except Exception as error:
            raise self._failed(path, error) from error

    def _download(self, path: str, target: Path, most_bytes: int) -> None:
        try:
            download(f"{self.address}/{path}", target, most_bytes=most_bytes)
        except DataError as error:
            raise CheckpointError(error.problem, place=error.place, remedy="run the same command again") from error

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _local(self, path: str) -> Path:
        """Returns a local file, after a check that no part of its path below the zoo is a link."""
        parts = PurePosixPath(path).parts
        for depth in range(len(parts)):
            if self.folder.joinpath(*parts[: depth + 1]).is_symlink():
                raise CheckpointError(f"{path} is a symbolic link, which a zoo has none of", place=self.place)
        return self.folder / path

    @property
    def _system(self) -> Any:
        return self._opened[0]

    @property
    def _root(self) -> str:
        return self._opened[1]

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        try:
            system, root = url_to_fs(self.address, **_options(self.protocol))
        except ImportError as error:
            package = _PACKAGES.get(self.protocol)
            remedy = f"pip install {package}" if package else "install what the message names"
            raise ConfigError(
                f"{self.protocol}:// needs a package that is not installed: {_line(error)}",
                place=self.place,
                remedy=remedy,
            ) from error
        except ValueError as error:
            raise ConfigError(f"not an address: {_line(error)}", place=self.place, remedy="see --help") from error
        return system, str(root).rstrip("/")

    def _failed(self, path: str, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"{path}: {_line(error).replace(self.address, self.place)}",
            place=self.place,
            remedy="check the address, the network and the credentials",
        )


def _options(protocol: str) -> dict[str, Any]:
    """Returns what a protocol's client is told: over ssh, to refuse a server that `known_hosts` does not know.

    Raises:
        ImportError: sshfs is not there. fsspec has a client of its own, which takes any server's key.
    """
    if protocol not in _SSH:
        return {}
    import sshfs  # noqa: F401

    return {"known_hosts": ()}


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def entries_of(address: str) -> dict[str, dict[str, Any]]:
    """Returns the entries of a zoo elsewhere by name.

    Raises:
        CheckpointError: there is no index there, or it is damaged.
    """
    if address.startswith(HUB):
        raise ConfigError(
            "the hub has one checkpoint in a repository, and no index",
            place=without_secrets(address),
            remedy="peft-eval zoo pull it",
        )
    content = Remote(address).read(INDEX_NAME)
    if content is None:
        raise CheckpointError(
            f"there is no {INDEX_NAME}: not a zoo", place=without_secrets(address), remedy="check the address"
        )
    return parse_entries(content, f"{without_secrets(address)}/{INDEX_NAME}")


def described_elsewhere(address: str, reference: str) -> tuple[VersionRecord, dict[str, Any]]:
    """Returns what a zoo elsewhere says of a version, and of its name's versions.

    Raises:
        ConfigError: it has no such name or version.
        CheckpointError: its index or record is missing or damaged.
    """
    from peft_eval.zoo.records import parse_index

    remote = Remote(address)
    content = remote.read(INDEX_NAME)
    if content is None:
        raise CheckpointError(
            f"there is no {INDEX_NAME}: not a zoo", place=without_secrets(address), remedy="check the address"
        )
    name, wanted = _named(reference)
    entries = parse_index(content, f"{without_secrets(address)}/{INDEX_NAME}").entries
    if name not in entries:
        raise unknown_name("zoo name", name, entries, place=without_secrets(address))
    entry = entries[name].model_dump()
    version = version_named(entry, wanted)
    if version is None:
        raise unknown_name(
            f"version of {name}", wanted, {*entry["versions"], *entry["tags"]}, place=without_secrets(address)
        )
    path = f"{entry['versions'][version]['folder']}/{RECORD_NAME}"
    content = remote.read(path)
    if content is None:
        raise CheckpointError(f"{path} is missing", place=without_secrets(address), remedy="push it again")
    record = parse_record(content, f"{without_secrets(address)}/{path}")
    if (record.name, record.version) != (name, version):
        raise CheckpointError(f"the index says {name}@{version}, {path} something else", place=without_secrets(address))
    return record, entry


def _named(reference: str) -> tuple[str, str]:
    name, version = split_name(reference)
    return name, version or LATEST
