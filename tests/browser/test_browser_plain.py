"""In a real Chromium the page shows the very words of an enemy and asks nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browsing import Watched
from tests.support.hostile import HOSTILE, as_shown
from tests.support.machine import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A page that shows every hostile text in every kind of element."""
    port = free_port()
    page = ROOT / "tests" / "support" / "plain_page.py"
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(page), f"--server.port={port}"],
        cwd=ROOT,
        env={**os.environ, "HOSTILE": json.dumps(HOSTILE)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def test_a_browser_shows_the_very_words_and_asks_nobody(browser: Browser, address: str) -> None:
    watched = Watched(browser, address, "#all-drawn")
    page = watched.page
    page.wait_for_selector(f".st-key-case-{len(HOSTILE) - 1} [data-testid=stProgress]")
    page.wait_for_timeout(1500)  # plug-ins for emoji and formulas come by themselves
    for number, text in enumerate(HOSTILE):
        case, shown = page.locator(f".st-key-case-{number}"), as_shown(text)
        bodies = [
            case.locator("[data-testid=stAlert] p")
            .inner_text()
            .removeprefix("Nothing was stored: ")
            .removesuffix(" (row 2)")
        ]
        bodies += case.locator(
            "[data-testid=stMarkdown], [data-testid=stCaptionContainer]"
        ).all_inner_texts()
        bodies += case.locator("button").all_inner_texts()
        bodies += case.locator("[data-testid=stProgress] p").all_inner_texts()
        assert [" ".join(body.split()) for body in bodies] == [shown] * len(bodies), text
        assert len(bodies) >= 6
        assert case.locator("a, img, strong, em, del, h1, li, hr, blockquote, .katex").count() == 0
    page.close()
    assert watched.complaints == []
