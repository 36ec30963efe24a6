"""Pull and push over ssh: a real server on loopback, with keys."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from peft_eval.checkpoint.zoo_index import find
from peft_eval.errors import CheckpointError
from peft_eval.zoo.folder_zoo import FolderZoo
from peft_eval.zoo.transfer import push
from tests.zoo.travelling import fetch_goes_on, there_and_back

asyncssh = pytest.importorskip("asyncssh")
sshfs = pytest.importorskip("sshfs")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a folder over ssh; the user's home has a key that the server takes, and knows the server's."""
    home, folder = tmp_path / "home", tmp_path / "served"
    (home / ".ssh").mkdir(parents=True)
    folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    key, host_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    key.write_private_key(home / ".ssh" / "id_ed25519")
    key.write_public_key(home / "authorized")
    loop = asyncio.new_event_loop()  # in a thread of its own: a browser of other tests has one running in this
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> int:
        listening = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[host_key],
            authorized_client_keys=str(home / "authorized"),
            sftp_factory=lambda connection: asyncssh.SFTPServer(connection, chroot=str(folder)),
            options=asyncssh.SSHServerConnectionOptions(login_timeout=60),
        )
        return int(listening.sockets[0].getsockname()[1])

    port = asyncio.run_coroutine_threadsafe(listen(), loop).result(60)
    known = f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}"
    (home / ".ssh" / "known_hosts").write_text(known)
    yield f"ssh://me@127.0.0.1:{port}/zoo"
    sshfs.SSHFileSystem.clear_instance_cache()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def test_over_ssh_and_back(server: str, filled: FolderZoo, tmp_path: Path) -> None:
    there_and_back(server, FolderZoo(tmp_path / "other"))
    assert not list((tmp_path / "served").rglob("*.part"))


def test_a_fetch_goes_on(server: str, filled: FolderZoo, tmp_path: Path) -> None:
    fetch_goes_on(server, tmp_path / "part")


def test_an_unknown_server_is_refused(server: str, filled: FolderZoo, tmp_path: Path) -> None:
    (tmp_path / "home" / ".ssh" / "known_hosts").unlink()
    with pytest.raises(CheckpointError, match="Host key is not trusted"):
        list(push([find("zoo:tiny-lora")], server))
    assert not list((tmp_path / "served").iterdir())
