"""Pull and push with Amazon's and Google's protocols, each against a real server on loopback.

Needs `pip install s3fs "moto[server]"`, `pip install gcsfs gcp-storage-emulator`; without them these tests are skipped.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from peft_eval.checkpoint.zoo_index import find
from peft_eval.errors import ConfigError
from peft_eval.zoo.folder_zoo import FolderZoo
from peft_eval.zoo.transfer import pull, push
from peft_eval.zoo.verifying import verify
from tests.zoo.travelling import fetch_goes_on, there_and_back

SECRET = "of-the-store"


def s3(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """S3: moto's server."""
    s3fs = pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    import boto3

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield "s3://bucket/zoo"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def gcs(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Google Cloud Storage: an emulator, which has no gRPC."""
    patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # read when it is imported
    gcsfs = pytest.importorskip("gcsfs")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    patch.setenv("FSSPEC_GS_TOKEN", "anon")
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    yield "gs://bucket/zoo"
    gcsfs.GCSFileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(params=[s3, gcs], ids=["s3", "gcs"])
def address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An empty folder of a bucket."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield from request.param(monkeypatch)


def test_there_and_back(address: str, filled: FolderZoo, tmp_path: Path) -> None:
    for place in there_and_back(address, FolderZoo(tmp_path / "other")):
        assert {check.state for check in verify(place)} == {"ok", "note"}  # the note: it is not signed
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not any(SECRET.encode() in path.read_bytes() for path in written)


def test_a_fetch_goes_on(address: str, filled: FolderZoo, tmp_path: Path) -> None:
    fetch_goes_on(address, tmp_path / "part")


def test_what_is_not_there(address: str, filled: FolderZoo, tmp_path: Path) -> None:
    list(push([find("zoo:tiny-lora")], address))
    with pytest.raises(ConfigError, match="unknown zoo name 'nobody'"):
        list(pull(address, ["nobody"], FolderZoo(tmp_path / "other")))
