"""Files that are made at the click, against Streamlit's own keeper of files."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from streamlit import runtime
from streamlit.runtime.media_file_manager import MediaFileManager
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage

from pairs.dashboard import download


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> MediaFileManager:
    made = MediaFileManager(MemoryMediaFileStorage("/media"))
    monkeypatch.setattr(runtime, "exists", lambda: True)
    monkeypatch.setattr(runtime, "get_instance", lambda: SimpleNamespace(media_file_mgr=made))
    monkeypatch.setattr(download, "KEEP_S", 1.0)
    return made


def fetched(keeper: MediaFileManager, url: str) -> bytes | None:
    """What the browser gets; None for HTTP 404."""
    files = keeper._storage._files_by_id
    found = files.get(url.rsplit("/", 1)[1].split(".")[0])
    return found.content if found else None


def clicked(keeper: MediaFileManager, content: bytes) -> str:
    number = keeper.add_deferred(
        lambda: download.lasting(content, "a.csv", "text/csv"), "text/csv", "here", "a.csv"
    )
    return keeper.execute_deferred(number)


def test_a_file_outlives_the_refreshes_of_all_tabs_until_it_is_fetched(
    keeper: MediaFileManager,
) -> None:
    urls = [clicked(keeper, content) for content in (b"first", b"second")]
    for _ in range(20):  # what Streamlit does after each run of each session
        keeper.remove_orphaned_files()
    assert [fetched(keeper, url) for url in urls] == [b"first", b"second"]


def test_a_file_is_not_kept_for_ever(keeper: MediaFileManager) -> None:
    url = clicked(keeper, b"content")
    deadline = time.monotonic() + 30
    while fetched(keeper, url) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
        keeper.remove_orphaned_files()
    assert fetched(keeper, url) is None
