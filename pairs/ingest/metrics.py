"""The daemon's figures for Prometheus, on loopback, where METRICS_PORT asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram, start_http_server

_LABELS = ("venue", "symbol")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

STORED = Counter("pairs_trades_stored_total", "Trades stored for the first time", _LABELS)
DUPLICATES = Counter("pairs_trades_duplicate_total", "Trades that were stored already", _LABELS)
CONFLICTS = Counter(
    "pairs_trades_conflict_total", "Trades that differ from the stored one", ("venue",)
)
QUARANTINED = Counter(
    "pairs_frames_quarantined_total", "Frames kept as no storable trade", ("venue",)
)
GAPS_OPENED = Counter("pairs_gaps_opened_total", "Holes found in the trade ids", _LABELS)
GAPS_FILLED = Counter("pairs_gaps_filled_total", "Holes filled by REST or late frames", _LABELS)
GAPS_LOST = Counter(
    "pairs_gaps_lost_total", "Holes that are void or unrecoverable", (*_LABELS, "state")
)
GAPS_OPEN = Gauge("pairs_gaps_open", "Holes waiting for repair", _LABELS)
RECONNECTS = Counter("pairs_reconnects_total", "Connections lost", ("venue",))
PARTS_FAILED = Counter(
    "pairs_parts_failed_total", "Parts of the daemon that ended and were begun again", ("part",)
)
QUEUE = Gauge("pairs_queue_frames", "Frames waiting to be written", ("venue",))
QUEUE_BYTES = Gauge("pairs_queue_bytes", "Bytes of the frames waiting to be written", ("venue",))
LIVE = Gauge("pairs_feed_live", "1 where a stream is live or its market quiet", _LABELS)
LAG = Histogram(
    "pairs_trade_to_commit_seconds",
    "From the oldest live trade of a batch to its commit, by the two clocks",
    ("venue",),
    buckets=_SECONDS,
)
COMMIT = Histogram("pairs_commit_seconds", "One batch's transaction", ("venue",), buckets=_SECONDS)


class Stored(Protocol):
    """What one transaction changed; see storage.postgres.Written."""

    @property
    def conflicts(self) -> int: ...
    @property
    def by_symbol(self) -> Mapping[str, tuple[int, int]]: ...
    @property
    def filled(self) -> Mapping[str, int]: ...


def note_stored(venue: str, written: Stored) -> None:
    """Count what one transaction stored, live or repaired."""
    for symbol, (stored, duplicates) in written.by_symbol.items():
        STORED.labels(venue, symbol).inc(stored)
        DUPLICATES.labels(venue, symbol).inc(duplicates)
    for symbol, count in written.filled.items():
        GAPS_FILLED.labels(venue, symbol).inc(count)
    if written.conflicts:
        CONFLICTS.labels(venue).inc(written.conflicts)


def serve(port: int) -> None:
    """Answer http://127.0.0.1:PORT/metrics from a thread. OSError where the port is taken."""
    try:
        start_http_server(port, addr="127.0.0.1")
    except OSError as error:
        raise OSError(f"METRICS_PORT={port} cannot be used ({error}): choose another") from error
