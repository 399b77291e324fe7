"""What must hold of a stored record: complete, no gap open."""

from __future__ import annotations

from exchange.synthetic import SyntheticSource
from exchange.testing import Running
from exchange.world import default_world
from pairs.storage.audit import audit
from pairs.storage.postgres import PostgresStore
from tests.support.chaos import SEED, TALLY
from tests.support.daemon import count
from tests.support.desk import SYMBOLS
from tests.support.foreign import Foreign

OPEN = "SELECT count(*) FROM v_gaps WHERE state = 'open'"

Row = tuple[int, int, str]


def complete(store: PostgresStore, exchange: Foreign) -> bool:
    total = sum(len(rows) for rows in exchange.trades.values())
    return bool(count(store) == total and count(store, OPEN) == 0)


def source(trades_per_s: float = 500) -> SyntheticSource:
    return SyntheticSource(default_world().only(list(SYMBOLS)).steady(trades_per_s), seed=SEED)


def assert_complete(store: PostgresStore, exchange: Running) -> None:
    """After the daemon's end: the stored ids are the tape's from the first to the newest."""
    for symbol in SYMBOLS:
        known = store.known_ids("local", symbol)
        assert known is not None
        with store.transaction() as cursor:
            cursor.execute(
                "SELECT trade_id, price, size, (extract(epoch FROM ts) * 1000)::bigint,"
                " buyer_is_maker FROM v_ticks WHERE venue = 'local' AND symbol = %s"
                " ORDER BY trade_id",
                (symbol,),
            )
            stored = cursor.fetchall()
        tape = [
            (i, float(p), float(q), us // 1000, m)
            for i, p, q, us, m in exchange.log(symbol, *known)
        ]
        same = TALLY.compare(tape, stored)
        assert same, f"{symbol}: {len(stored)} stored, {len(tape)} on the tape"
    assert audit(store)["ok"]


def no_open_gap(store: PostgresStore) -> bool:
    return bool(count(store, "SELECT count(*) FROM v_gaps WHERE state = 'open'") == 0)


def gaps(store: PostgresStore) -> list[Row]:
    with store.transaction() as cursor:
        cursor.execute("SELECT first_id, last_id, state FROM v_gaps ORDER BY first_id")
        return cursor.fetchall()


def reasons(store: PostgresStore) -> set[str]:
    with store.transaction() as cursor:
        cursor.execute("SELECT reason FROM gap WHERE state = 'unrecoverable'")
        return {row[0] for row in cursor.fetchall()}
