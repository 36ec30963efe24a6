"""Uploading a finished model folder to the hub, with huggingface_hub's own client, login and endpoint (HF_ENDPOINT)."""

from __future__ import annotations

from pathlib import Path

from peft_eval.errors import CheckpointError

REMEDY = "check the name, the network and HF_TOKEN (hf auth login); the folder itself is complete"


def push_folder(folder: Path, hub_id: str, *, private: bool = False) -> str:
    """Uploads a folder in one commit, making the repository if there is none.

    Args:
        folder: the folder.
        hub_id: `ORG/NAME`.
        private: make the repository private if it has to be made.

    Returns:
        The commit's address.

    Raises:
        CheckpointError: the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(hub_id, private=private or None, exist_ok=True)
        commit = api.upload_folder(repo_id=hub_id, folder_path=folder, commit_message=f"Upload {folder.name}")
    except Exception as error:  # the client raises a dozen unrelated types
        lines = str(error).strip().splitlines()
        raise CheckpointError(
            f"not uploaded to {hub_id}: {lines[0] if lines else type(error).__name__}", place=str(folder), remedy=REMEDY
        ) from error
    return commit.commit_url
