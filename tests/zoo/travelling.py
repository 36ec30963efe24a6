"""What has to hold of every address that a zoo is pushed to and pulled from."""

from __future__ import annotations

from pathlib import Path

from peft_eval.checkpoint.zoo_index import ZooPlace, find
from peft_eval.zoo.folder_zoo import FolderZoo
from peft_eval.zoo.remote import Remote, entries_of
from peft_eval.zoo.transfer import pull, push
from tests.zoo.test_transfer import same_files


def there_and_back(address: str, other: FolderZoo) -> list[ZooPlace]:
    """Pushes two versions, twice, and returns what another zoo pulls of them."""
    places = [find("zoo:tiny-base"), find("zoo:tiny-lora")]
    assert ["sent" in line for line in push(places, address)] == [True, True]
    assert "already there" in next(push(places, address))
    assert set(entries_of(address)) == {"tiny-base", "tiny-lora"}
    back = list(pull(address, ["tiny-base", "tiny-lora@v1"], other))
    for (place, is_new), mine in zip(back, places, strict=True):
        assert is_new and same_files(place.folder, mine.folder)
    return [place for place, _ in back]


def fetch_goes_on(address: str, part: Path) -> None:
    """Fetches the rest of a file of which the beginning is there."""
    place = find("zoo:tiny-lora")
    list(push([place], address))
    whole = (place.folder / "adapter_model.safetensors").read_bytes()
    part.write_bytes(whole[:1000])
    Remote(address).fetch(f"tiny-lora/{place.version}/adapter_model.safetensors", part, len(whole))
    assert part.read_bytes() == whole
