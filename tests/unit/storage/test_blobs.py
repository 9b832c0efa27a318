"""One interface, three places: this disk alone, S3, and a second directory as the simplest other store."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hone.errors import ServerError, UserError
from hone.storage.atomic import remove_tree
from hone.storage.blobs import Blobs
from hone.storage.object_store import LIST, ObjectStore

NAME = "checkpoints/1b:train:0/weights/odd+=@,~name@7"
FILES = {"adapter.safetensors": b"\0" * 100, "hone.json": b"{}", "empty": b""}


@pytest.fixture(params=["s3", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return str(request.getfixturevalue("s3").url())
    (tmp_path / "store").mkdir()
    return f"file://{tmp_path / 'store'}"


def with_blobs(root: Path, url: str | None, test: Callable[[Blobs], Awaitable[None]]) -> None:
    async def run() -> None:
        blobs = Blobs(root, url)
        try:
            await test(blobs)
        finally:
            await blobs.close()

    asyncio.run(run())


def write(blobs: Blobs, name: str = NAME, files: dict[str, bytes] = FILES) -> None:
    blobs.path(name).mkdir(parents=True)
    for file, content in files.items():
        (blobs.path(name) / file).write_bytes(content)


def read(blobs: Blobs, name: str = NAME) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in blobs.path(name).iterdir()}


def test_without_a_store_the_disk_is_all_there_is(tmp_path: Path) -> None:
    async def test(blobs: Blobs) -> None:
        assert not await blobs.fetch(NAME)
        write(blobs)
        await blobs.keep(NAME)
        assert not blobs.remote
        assert await blobs.fetch(NAME)
        assert await blobs.copy(NAME, "checkpoints/copy") == 102
        await blobs.remove(NAME)
        await blobs.remove(NAME)
        assert not await blobs.fetch(NAME)
        assert read(blobs, "checkpoints/copy") == FILES
        assert await blobs.names("checkpoints") == {"1b:train:0", "copy"}
        blobs.discard("checkpoints/copy")
        assert await blobs.names("checkpoints/copy") == set()

    with_blobs(tmp_path, None, test)


def test_what_the_disk_lost_comes_back_whole(tmp_path: Path, url: str) -> None:
    async def test(blobs: Blobs) -> None:
        write(blobs)
        await blobs.keep(NAME)
        remove_tree(blobs.path(NAME))
        assert await asyncio.gather(*(blobs.fetch(NAME) for _ in range(5))) == [True] * 5
        assert read(blobs) == FILES
        assert [path.name for path in blobs.path(NAME).parent.iterdir()] == [blobs.path(NAME).name]
        assert await blobs.names(str(Path(NAME).parent)) == {Path(NAME).name}
        assert not await blobs.fetch("checkpoints/other")

    with_blobs(tmp_path / "a", url, test)

    async def elsewhere(blobs: Blobs) -> None:
        assert await blobs.fetch(NAME)
        await blobs.copy(NAME, "checkpoints/copy")
        blobs.discard(NAME)
        await blobs.remove("checkpoints/nothing")
        remove_tree(blobs.path("checkpoints/copy"))
        assert await blobs.fetch("checkpoints/copy")
        assert not await blobs.fetch(NAME)

    with_blobs(tmp_path / "b", url, elsewhere)


def test_a_directory_of_which_only_a_part_came_over_is_not_there(tmp_path: Path, url: str) -> None:
    store = ObjectStore(url)

    async def test(blobs: Blobs) -> None:
        write(blobs)
        await blobs.keep(NAME)
        _delete(store, f"{NAME}/{LIST}")  # as if the server had been killed before the last file
        remove_tree(blobs.path(NAME))
        assert not await blobs.fetch(NAME)
        assert await blobs.names(str(Path(NAME).parent)) == {Path(NAME).name}
        await blobs.remove(NAME)
        assert await blobs.names(str(Path(NAME).parent)) == set()

    with_blobs(tmp_path, url, test)


def test_a_file_that_changed_in_the_store_is_noticed(tmp_path: Path, url: str) -> None:
    async def test(blobs: Blobs) -> None:
        write(blobs)
        await blobs.keep(NAME)
        remove_tree(blobs.path(NAME))
        import obstore

        obstore.put(ObjectStore(url)._store, f"{NAME}/hone.json", b"{}}")
        with pytest.raises(ServerError, match=r"hone.json has 3 bytes in the object store, not 2"):
            await blobs.fetch(NAME)
        assert not list(blobs.path(NAME).parent.iterdir())
        _delete(ObjectStore(url), f"{NAME}/hone.json")
        assert not await blobs.fetch(NAME)

    with_blobs(tmp_path, url, test)


def test_work_on_one_directory_is_done_in_the_order_of_the_calls(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    put = ObjectStore.put

    def late(*arguments: Any) -> None:
        gate.wait(10)
        put(*arguments)

    monkeypatch.setattr(ObjectStore, "put", late)

    async def test(blobs: Blobs) -> None:
        write(blobs)
        keeping = asyncio.create_task(blobs.keep(NAME))
        await asyncio.sleep(0)
        removing = asyncio.create_task(blobs.remove(NAME))
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(keeping, removing, return_exceptions=True)
        assert not await blobs.fetch(NAME)
        assert await blobs.names(str(Path(NAME).parent)) == set()

    with_blobs(tmp_path, url, test)


def test_what_cannot_be_kept_is_removed_and_said(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ServerError("the object store could not write it")

    async def test(blobs: Blobs) -> None:
        write(blobs)
        monkeypatch.setattr(ObjectStore, "put", fail)
        with pytest.raises(ServerError, match="could not write"):
            await blobs.keep_once(NAME)
        assert blobs.here(NAME)
        with pytest.raises(ServerError, match="could not write"):
            await blobs.keep(NAME)
        assert not blobs.here(NAME)

    with_blobs(tmp_path, url, test)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("somewhere", "it must be like s3://BUCKET/PREFIX"),
        ("https://bucket/prefix", "it must be like s3://BUCKET/PREFIX"),
        ("s3://bucket?colour=blue", "cannot be used: Configuration key: 'colour' is not valid"),
        ("s3://absent?endpoint_url={endpoint}", "could not list it: .*NoSuchBucket"),
    ],
)
def test_a_wrong_url_is_refused_at_once(wrong: str, message: str, s3: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"HONE_BLOBS_URL .*({message})"):
        Blobs(tmp_path, wrong.format(endpoint=s3.endpoint))


def _delete(store: ObjectStore, path: str) -> None:
    import obstore

    obstore.delete(store._store, path)
