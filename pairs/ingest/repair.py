"""Filling the holes: every open gap is asked for by id until it is filled or known to be lost.

By id and never by time: hundreds of trades can share one millisecond. Page by page, and before
every page the hole is chosen anew: the newest first, one of a page before one of millions, so that
what was missed just now never waits for the repair of yesterday. What is older than REPAIR_HOURS is
given up by id; the exchange's klines stand in for it (ingest/backfill.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from pairs.clock import steady_us
from pairs.feeds.binance.budget import BULK, EDGE, Kind
from pairs.feeds.binance.protocol import REST_PAGE, Unstorable
from pairs.feeds.binance.rest import BinanceRest, RestError
from pairs.ingest import metrics
from pairs.ingest.renumbered import began_behind
from pairs.market import Trade, Venue
from pairs.retry import backoff, next_wait_s
from pairs.storage.errors import DATABASE_ERRORS
from pairs.storage.gaps import AT_A_START, NEVER, Again, Gap
from pairs.storage.postgres import PostgresStore, Written

log = logging.getLogger("repair")
GRACE_S = 0.3  # late frames mostly close a hole by themselves
NEAR = REST_PAGE * 9 // 10  # ids: small holes no further apart are asked for together
SAME_EVERY_S = 60.0  # between two questions whether the ids go on where the record ends
BOUND_EVERY_S = 900.0  # how far back REPAIR_HOURS reaches is asked again in a long repair
TURNED = timedelta(seconds=10)  # a later id is not that much older
Rows = list[Trade | Unstorable]


@dataclass(frozen=True, slots=True)
class Patience:
    """What an exchange has to say, and for how long, before its trades are given up; and when they
    are asked for again all the same."""

    answers: int = 6  # final refusals in a row …
    seconds: float = 180.0  # … over so long, with no sign that REST is ill
    gone_answers: int = 3  # that its trades begin later than asked for, each with the same id …
    gone_s: float = 20.0
    again_s: float = 86_400.0
    first_s: float = 0.25  # waits between two questions
    longest_s: float = 30.0

    @property
    def refusal(self) -> Again:
        """When trades that the exchange refuses are asked for again."""
        return Again(self.again_s, refused=True)

    def waits(self) -> Iterator[float]:
        return backoff(random.Random(), self.first_s, self.longest_s)  # noqa: S311 - jitter


PATIENCE = Patience()


@dataclass
class _Verdict:
    """The same word again and again. Times are monotonic seconds."""

    word: object = None
    since: float = 0.0
    count: int = 0

    def heard(self, word: object, not_before: float = float("-inf")) -> None:
        """Count it; begin anew with another word, or where something spoke against it at
        `not_before`."""
        if word != self.word or self.since <= not_before:
            self.word, self.since, self.count = word, time.monotonic(), 0
        self.count += 1

    def stands(self, answers: int, seconds: float) -> bool:
        return self.count >= answers and time.monotonic() - self.since >= seconds


@dataclass
class _Effort:
    """How far the repair of one gap has come. Times are monotonic seconds."""

    missing: int | None
    patience: Patience
    verdict: _Verdict = field(default_factory=_Verdict)
    not_before: float = 0.0
    bounded_at: float = float("-inf")
    waits: Iterator[float] = field(init=False)

    def __post_init__(self) -> None:
        self.waits = self.patience.waits()

    def wait(self) -> None:
        self.not_before = time.monotonic() + next(self.waits)

    def progress(self) -> None:
        self.verdict, self.waits = _Verdict(), self.patience.waits()


class Repair:
    """Repairs the gaps of one venue, the symbols side by side. `lost` hears of trades that were
    given up."""

    def __init__(
        self,
        store: PostgresStore,
        rest: BinanceRest,
        venue: Venue,
        hours: float,
        lost: Callable[[], None] = lambda: None,
        patience: Patience = PATIENCE,
        anew: Callable[[str, str], None] = lambda symbol, why: None,
        paused: Callable[[str], bool] = lambda symbol: False,
    ) -> None:
        self._store = store
        self._rest = rest
        self._venue = venue
        self._hours = hours
        self._lost = lost
        self._patience = patience
        self._anew = anew
        self._paused = paused
        self._same_at: dict[str, float] = {}  # when the count of ids was last seen to go on
        self._wanted: dict[str, asyncio.Event] = {}
        self._efforts: dict[str, dict[Gap, _Effort]] = {}

    def wake(self, symbol: str) -> None:
        """There may be a new gap in `symbol`."""
        self._event(symbol).set()

    def _event(self, symbol: str) -> asyncio.Event:
        return self._wanted.setdefault(symbol, asyncio.Event())

    async def watch(self, symbol: str) -> None:
        """Repair every gap of `symbol`, those of earlier runs first; runs until cancelled."""
        event = self._event(symbol)
        event.set()
        waits = self._patience.waits()
        while True:
            await event.wait()
            await asyncio.sleep(GRACE_S)
            event.clear()
            try:
                while not self._paused(symbol) and (
                    gaps := await asyncio.to_thread(self._store.open_gaps, self._venue, symbol)
                ):
                    metrics.GAPS_OPEN.labels(self._venue, symbol).set(len(gaps))
                    await self._step(symbol, gaps)
                    waits = self._patience.waits()
                metrics.GAPS_OPEN.labels(self._venue, symbol).set(0)
            except (RestError, *DATABASE_ERRORS) as error:
                wait = next_wait_s(waits, error)
                log.warning('repair_waits symbol=%s seconds=%.1f reason="%s"', symbol, wait, error)
                await asyncio.sleep(wait)
                event.set()

    async def _step(self, symbol: str, gaps: list[Gap]) -> None:
        """One page of the gap whose turn it is; where all of them wait, wait for the first or
        for a new one."""
        known = self._efforts.get(symbol, {})
        efforts = self._efforts[symbol] = {gap: known[gap] for gap in gaps if gap in known}
        now = time.monotonic()
        due = [g for g in gaps if g not in efforts or efforts[g].not_before <= now]
        if not due:
            pause = min(effort.not_before for effort in efforts.values()) - now
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._event(symbol).wait(), pause)
            self._event(symbol).clear()
            return
        gap = _chosen(due)
        effort = efforts.get(gap)
        if effort is None:
            log.info("gap_open symbol=%s first_id=%d last_id=%d", *_key(gap))
            effort = efforts[gap] = _Effort(await self._first_missing(gap), self._patience)
        if effort.missing is None:
            await self._close(gap)
        elif not await self._beyond(gap, effort):
            await self._page(gap, gaps, effort, effort.missing)

    async def _first_missing(self, gap: Gap) -> int | None:
        return await asyncio.to_thread(self._store.first_missing, self._venue, gap)

    async def _close(self, gap: Gap) -> None:
        closed = await asyncio.to_thread(self._store.close_gap, self._venue, gap)
        metrics.GAPS_FILLED.labels(self._venue, gap.symbol).inc(closed)
        log.info("gap_filled symbol=%s first_id=%d last_id=%d", *_key(gap))

    # -- what is too old to be asked for by id

    async def _beyond(self, gap: Gap, effort: _Effort) -> bool:
        """Whether a part of the gap was given up because it is older than REPAIR_HOURS. Told by
        the trades beside it, whose times the exchange has stated: no clock is compared."""
        if effort.missing is None or time.monotonic() - effort.bounded_at < BOUND_EVERY_S:
            return False
        effort.bounded_at = time.monotonic()
        rest = Gap(gap.symbol, effort.missing, gap.last_id)
        before, after, newest = await asyncio.to_thread(self._store.times_of, self._venue, rest)
        if before is not None and after is not None and before > after + TURNED:
            why = f"ids began anew: the trade before is of {before}, the one behind of {after}"
            await self._lose(gap, (rest.first_id, gap.last_id), "unrecoverable", why)
            return True
        if newest is None:
            return False
        bound = newest - timedelta(hours=self._hours)
        if before is not None and before >= bound:
            return False
        why = older_than(self._hours)
        if after is not None and after < bound:
            await self._lose(gap, (rest.first_id, gap.last_id), "unrecoverable", why, AT_A_START)
            return True
        if await self._is_anew(gap.symbol, effort.missing):
            return True
        try:
            first = await self._rest.first_id_since(gap.symbol, int(bound.timestamp() * 1000))
        except RestError as error:
            if not error.refused:
                raise
            return False  # it cannot be asked by time: what it no longer has, it will say
        if first is None or first <= rest.first_id:
            return False
        last = min(first - 1, gap.last_id)
        if last < gap.last_id:  # the trade behind what is lost tells how long that was
            page = await self._rest.trades_from(gap.symbol, first, kind=_kind(gap))
            await self._store_page(gap.symbol, _trades(_inside(page, [gap])))
        await self._lose(gap, (rest.first_id, last), "unrecoverable", why, AT_A_START)
        return True

    # -- one page

    async def _page(self, gap: Gap, gaps: list[Gap], effort: _Effort, missing: int) -> None:
        """Ask for the ids from `missing` on. Whatever the page tells of other gaps is stored with
        it; a part that turns out to be lost is settled."""
        if await self._is_anew(gap.symbol, missing):
            return
        try:
            # A whole page, however small the hole: what comes after it tells void from late.
            page = await self._rest.trades_from(gap.symbol, missing, kind=_kind(gap))
        except RestError as error:
            if not error.final:
                raise  # an outage, or something in between: asked again without end
            await self._refused(gap, effort, missing, error)
            return
        page = [row for row in page if row.trade_id >= missing]
        unread = _unreadable_from(missing, page)
        page = _readable(page)
        if unread:
            await self._store_page(gap.symbol, _inside(page, gaps))
            await self._unread(gap, effort, unread)
        elif not page:  # REST trails the stream, or is under maintenance
            effort.verdict = _Verdict()
            effort.wait()
            effort.missing = await self._first_missing(gap)
        elif page[0].trade_id > missing:
            await self._store_page(gap.symbol, _inside(page, gaps))
            await self._skip(gap, effort, missing, page[0].trade_id)
        else:
            effort.progress()
            await self._take(gap, gaps, effort, missing, page)

    async def _refused(self, gap: Gap, effort: _Effort, missing: int, error: RestError) -> None:
        """A final refusal counts where it is repeated for minutes while REST is well otherwise."""
        effort.verdict.heard("refused", not_before=self._rest.unwell_at)
        if not effort.verdict.stands(self._patience.answers, self._patience.seconds):
            effort.wait()
            return
        if self._rest.well_at < effort.verdict.since:
            await self._rest.time_ms()
        again = self._patience.refusal
        await self._lose(gap, (missing, gap.last_id), "unrecoverable", str(error), again)

    async def _is_anew(self, symbol: str, missing: int) -> bool:
        """Whether the ids have begun anew behind the stored trade before a hole: then nothing that
        the exchange tells belongs to this record."""
        if time.monotonic() - self._same_at.get(symbol, float("-inf")) < SAME_EVERY_S:
            return False
        why = await began_behind(self._store, self._rest, self._venue, symbol, missing - 1)
        if why:
            self._anew(symbol, why)
            return True
        self._same_at[symbol] = time.monotonic()
        return False

    async def _unread(self, gap: Gap, effort: _Effort, rows: list[Unstorable]) -> None:
        """Rows that cannot be read stand where the missing trades should be: given up where that
        stays so for minutes, and asked for again later."""
        effort.verdict.heard(("unreadable", rows[0].trade_id), not_before=self._rest.unwell_at)
        if not effort.verdict.stands(self._patience.answers, self._patience.seconds):
            effort.wait()
            return
        rejected = rows[0].rejected
        await asyncio.to_thread(self._store.quarantine, self._venue, [rejected])
        metrics.QUARANTINED.labels(self._venue).inc()
        ids = (rows[0].trade_id, min(rows[-1].trade_id, gap.last_id))
        await self._lose(gap, ids, "unrecoverable", rejected.reason, self._patience.refusal)

    async def _take(
        self, gap: Gap, gaps: list[Gap], effort: _Effort, missing: int, page: Rows
    ) -> None:
        """Store a page that begins with the first id that is missing."""
        wanted = [row for row in page if row.trade_id <= gap.last_id]
        await self._store_page(gap.symbol, wanted + _inside(page[len(wanted) :], gaps))
        missing = _after(missing, [row.trade_id for row in wanted])
        effort.missing = missing if missing <= gap.last_id else await self._first_missing(gap)
        if effort.missing is None:
            await self._close(gap)

    async def _store_page(self, symbol: str, page: Iterable[Trade | Unstorable]) -> None:
        """Store what can be stored; settle the ids of what cannot, all at once."""
        rows = list(page)
        await self._write(symbol, _trades(rows), [r for r in rows if isinstance(r, Unstorable)])

    async def _write(self, symbol: str, trades: list[Trade], odd: list[Unstorable]) -> Written:
        seen = [row.rejected for row in odd]
        written = await asyncio.to_thread(
            self._store.write, self._venue, trades, steady_us, seen=seen
        )
        metrics.note_stored(self._venue, written)
        if written.lost:
            metrics.GAPS_LOST.labels(self._venue, symbol, "unrecoverable").inc(written.lost)
            why = next(one.reason for one in seen if not one.no_trade)
            log.error(
                'gap_lost symbol=%s ids=%d state=unrecoverable reason="the exchange tells them,'
                ' but %s"',
                symbol,
                written.lost,
                why,
            )
            self._lost()
        return written

    async def _skip(self, gap: Gap, effort: _Effort, first: int, begins: int) -> None:
        """The exchange begins with id `begins`, later than asked: the ids before it never were
        trades, or are gone, if it says so more than once."""
        last = min(begins - 1, gap.last_id)
        before = await self._rest.trades_from(gap.symbol, max(0, first - 1), 1, _kind(gap))
        if before and before[0].trade_id == first - 1:
            why = "the exchange tells the trades before and after, but none with these ids"
            await self._lose(gap, (first, last), "void", why)
            return
        effort.verdict.heard(begins, not_before=self._rest.unwell_at)
        if not effort.verdict.stands(self._patience.gone_answers, self._patience.gone_s):
            effort.wait()
            return
        why = nothing_before(begins)
        again = Again(self._patience.again_s)
        await self._lose(gap, (first, last), "unrecoverable", why, again)

    async def _lose(
        self, gap: Gap, ids: tuple[int, int], state: str, why: str, again: Again = NEVER
    ) -> None:
        metrics.GAPS_LOST.labels(self._venue, gap.symbol, state).inc()
        log.error(
            'gap_lost symbol=%s first_id=%d last_id=%d state=%s reason="%s"',
            gap.symbol,
            *ids,
            state,
            why,
        )
        await asyncio.to_thread(self._store.settle, self._venue, gap, *ids, state, why, again)
        if state == "unrecoverable":
            self._lost()

    async def begin(self, symbol: str, first_id: int) -> int:
        """Begin the record of `symbol` at `first_id` or before; its highest known id."""
        await asyncio.to_thread(self._store.begin_before, self._venue, symbol, first_id)
        known = await asyncio.to_thread(self._store.known_ids, self._venue, symbol)
        return first_id - 1 if known is None else known[1]

    async def catch_up(self, symbol: str, after: int, latest: int) -> int:
        """Fetch the newest page of what the exchange has beyond id `after` (a stream that has
        fallen silent), and what it prints meanwhile; the newest id then known. What is missing
        before that becomes a gap like any other."""
        after = max(after, latest - REST_PAGE)
        while True:
            page = await self._rest.trades_from(symbol, after + 1)
            page = [row for row in _readable(page) if row.trade_id > after]
            if not page:
                return after
            odd = [row for row in page if isinstance(row, Unstorable)]
            if (await self._write(symbol, _trades(page), odd)).gaps:
                self.wake(symbol)
            after = page[-1].trade_id


def older_than(hours: float) -> str:
    """Why trades are not asked for any more."""
    return f"older than REPAIR_HOURS={hours:g}: klines stand in"


def nothing_before(begins: int) -> str:
    """Why trades that were asked for cannot be had."""
    return f"the exchange tells nothing before id {begins} any more"


def _key(gap: Gap) -> tuple[str, int, int]:
    return gap.symbol, gap.first_id, gap.last_id


def _chosen(gaps: list[Gap]) -> Gap:
    """The newest, those of a page before larger ones. Small holes that lie together come with one
    page, which then begins with the oldest of them."""
    newest = min(gaps, key=lambda gap: (_large(gap), -gap.last_id))
    if _large(newest):
        return newest
    near = newest.last_id - NEAR
    return min(
        (gap for gap in gaps if not _large(gap) and near <= gap.first_id <= newest.first_id),
        key=lambda gap: gap.first_id,
        default=newest,
    )


def _trades(rows: Rows) -> list[Trade]:
    return [row for row in rows if isinstance(row, Trade)]


def _readable(rows: Rows) -> Rows:
    return [row for row in rows if isinstance(row, Trade) or not row.unreadable]


def _unreadable_from(missing: int, rows: Rows) -> list[Unstorable]:
    """The rows that cannot be read in place of the trades from `missing` on, up to the first that
    can."""
    found: list[Unstorable] = []
    for row in rows:
        if not isinstance(row, Unstorable) or not row.unreadable:
            break
        if row.trade_id != missing + len(found):
            break
        found.append(row)
    return found


def _large(gap: Gap) -> bool:
    return gap.last_id - gap.first_id >= REST_PAGE


def _kind(gap: Gap) -> Kind:
    return BULK if _large(gap) else EDGE


def _inside(rows: Rows, gaps: list[Gap]) -> Rows:
    """The rows that lie in one of `gaps`. Both ascend."""
    starts = [gap.first_id for gap in gaps]
    found = []
    for row in rows:
        k = bisect_right(starts, row.trade_id) - 1
        if k >= 0 and row.trade_id <= gaps[k].last_id:
            found.append(row)
    return found


def _after(expected: int, ids: list[int]) -> int:
    """The first id that does not continue the run beginning at `expected`."""
    for trade_id in ids:
        if trade_id != expected:
            break
        expected += 1
    return expected
