"""The database from the shell, and `open_database`, `open_store` for programs.

python database_utils.py url|service|init|health|prune|audit|stop
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Ctrl-C while the modules load: an end without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from functools import partial

from pairs.market import check_symbol
from pairs.messages import (
    CANNOT,
    INTERRUPTED,
    failed,
    noted,
    start_logging,
    watch_uncaught,
)
from pairs.settings import Parser, Settings, SettingsError, load_settings
from pairs.storage.audit import audit
from pairs.storage.database import (
    SERVICE,
    Database,
    StoreError,
    open_database,
    open_patiently,
    open_store,
    write_service,
)
from pairs.storage.errors import DATABASE_ERRORS
from pairs.storage.maintenance import health
from pairs.storage.records import RecordError, begin_new, venue_of
from pairs.storage.retention import prune
from pairs.storage.schema import SchemaError

__all__ = ["Database", "StoreError", "main", "open_database", "open_store"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description="The store from the shell.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "url", help="print the DSN of the database in use (starts the embedded one)"
    )
    commands.add_parser(
        "service",
        help="write a libpq service file (0600) and print the lines that make psql and pg_dump "
        "use it: no password on a command line",
    )
    commands.add_parser("init", help="make the schema, or bring it to this version")
    commands.add_parser("health", help="state as JSON; exit 1 when unhealthy")
    pruning = commands.add_parser("prune", help="drop trades older than TICK_RETENTION_DAYS")
    pruning.add_argument("--days", type=float, help="keep this many days instead of the setting")
    commands.add_parser("audit", help="prove that no trade is missing; exit 1 where one is")
    new = commands.add_parser(
        "new-record",
        help="end the record of a symbol whose trades the exchange counts anew, and begin another; "
        "what is stored stays, under another name",
    )
    new.add_argument("symbol")
    new.add_argument("--venue", choices=("binance", "binance-usdm", "local"))
    commands.add_parser("stop", help="stop the embedded PostgreSQL unless others still use it")
    return parser


def _run(arguments: argparse.Namespace, settings: Settings, database: Database) -> int:
    if arguments.command == "url":
        print(database.url, flush=True)
        database.leave()
        return 0
    if arguments.command == "service":
        file = write_service(database.url, settings.data_dir)
        print(f"export PGSERVICEFILE={shlex.quote(str(file))} PGSERVICE={SERVICE}", flush=True)
        database.leave()
        return 0
    if arguments.command == "stop":
        database.stop()
        return 0
    if arguments.command == "init":
        # Only for whom a backup holds up: what cannot be reached now is told at once.
        open_patiently(database, partial(noted, "database_utils"), seconds=0).close()
        print("schema is complete", flush=True)
        database.leave()
        return 0
    store = open_store(database, as_it_is=arguments.command in ("health", "audit"))
    try:
        if arguments.command == "prune":
            days = arguments.days if arguments.days is not None else settings.tick_retention_days
            if days is None or not days > 0:
                raise StoreError(
                    "nothing to prune: set TICK_RETENTION_DAYS or give --days N, N > 0"
                )
            gone = prune(store, days)
            print(json.dumps(gone), flush=True)
            for name in gone["blocked"]:
                print(f"database_utils: not pruned now, in use: {name}", file=sys.stderr)
            return 0
        if arguments.command == "new-record":
            symbol = check_symbol(arguments.symbol)
            venue = venue_of(store, symbol, arguments.venue)
            kept_as = begin_new(store, venue, symbol)
            told = {"venue": venue, "symbol": symbol, "kept_as": kept_as}
            print(json.dumps(told), flush=True)
            return 0
        report = health(store) if arguments.command == "health" else audit(store)
        print(json.dumps(report, indent=2), flush=True)
        return 0 if report["healthy" if arguments.command == "health" else "ok"] else 1
    finally:
        store.close()


def main(argv: Sequence[str] | None = None) -> int:
    """The shell commands; the exit code. Failures are one line on stderr."""
    arguments = _parser().parse_args(argv)
    database = None
    try:
        settings = load_settings()
        database = open_database(settings)
        return _run(arguments, settings, database)
    except (
        SettingsError,
        StoreError,
        SchemaError,
        RecordError,
        ValueError,
        *DATABASE_ERRORS,
    ) as error:
        failed("database_utils", error)
        return CANNOT
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        if database is not None:
            database.leave_as_found()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    start_logging("WARNING")
    watch_uncaught()
    sys.exit(main())
