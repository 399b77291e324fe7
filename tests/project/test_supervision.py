"""No part of the daemon ends unheard."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any

import pytest

from pairs.ingest import supervision
from pairs.ingest.supervision import Supervisor, end
from pairs.storage.embedded import EmbeddedError
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_feeds
from tests.support.daemon import eventually
from tests.support.desk import desk


def test_a_part_that_fails_is_told_and_begun_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervision, "WELL_S", 0.5)
    # A drawn wait may be too short to be seen.
    monkeypatch.setattr(supervision, "_waits", lambda: itertools.repeat(0.1))
    runs = []

    async def part() -> None:
        runs.append(asyncio.get_running_loop().time())
        if len(runs) == 1:
            raise KeyError("what nobody thought of")
        if len(runs) == 2:
            return
        await asyncio.Event().wait()

    async def main() -> list[Any]:
        parts = Supervisor(fatal=())
        task = asyncio.create_task(parts.run("repair ETHUSDT", part, symbols=["ETHUSDT"]))
        seen = []
        while len(runs) < 3:
            await asyncio.sleep(0.01)
            seen.append(parts.about("ETHUSDT"))
            assert parts.about("BTCUSDT") == (False, "")
        await asyncio.sleep(0.6)
        seen.append(parts.about("ETHUSDT"))
        await end([task])
        return seen

    seen = asyncio.run(main())
    assert (False, "repair ETHUSDT is down: KeyError: 'what nobody thought of'") in seen
    assert (False, "repair ETHUSDT is down: it ended without an error") in seen
    assert seen[-1] == (False, "")
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert any("part_failed" in line and "KeyError" in line for line in lines)
    assert any("part_ended" in line for line in lines)
    assert all("\n" not in line for line in lines)


def test_an_error_that_must_end_the_daemon_does() -> None:
    async def part() -> None:
        raise PermissionError("another has taken over")

    with pytest.raises(PermissionError):
        asyncio.run(Supervisor(fatal=(PermissionError,)).run("heartbeat", part))


def test_what_a_task_ended_with_is_told_when_it_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    async def part() -> None:
        raise ValueError("lost")

    async def main() -> None:
        task = asyncio.create_task(part(), name="a part")
        await asyncio.sleep(0)
        await end([task])

    asyncio.run(main())
    assert 'ended_with task="a part" error="ValueError: lost"' in caplog.text


class Ailing(PostgresStore):
    """A store whose question for open gaps fails a few times, as it does when the embedded server
    cannot be had, or in a way that nobody has thought of."""

    error: Exception
    times = 0

    def open_gaps(self, venue: Any, symbol: str) -> Any:
        if self.times and symbol == "ETHUSDT":
            self.times -= 1
            raise self.error
        return super().open_gaps(venue, symbol)


@pytest.mark.parametrize(
    "error", [EmbeddedError("PostgreSQL does not start"), KeyError("trade_id")], ids=repr
)
def test_a_repair_that_breaks_goes_on_and_its_gaps_are_filled(
    store: PostgresStore, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The rest of the daemon does not notice; the feed of that symbol says what is down."""
    ailing = Ailing(store.connect)
    ailing.error = error
    with desk(ailing) as d:
        d.flowing()
        ailing.times = 4
        d.exchange.faults.do("skip:40@ETHUSDT")
        if isinstance(error, KeyError):
            eventually(
                lambda: any(
                    "repair ETHUSDT is down" in f.detail and f.state == "stale"
                    for f in read_feeds(store.engine, "binance")
                ),
                "it is told",
            )
        eventually(lambda: ailing.times == 0, "it is tried again and again")
        d.flowing()
    ailing.close()
    assert ("part_failed" if isinstance(error, KeyError) else "repair_waits") in caplog.text
