"""Pools of connections that let go of a server whose place another has taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import InvalidatePoolError

from pairs.storage.errors import is_gone

if TYPE_CHECKING:
    from psycopg2.extensions import connection as RawConnection  # noqa: N812

# The server tells of these two by itself, from 14 on.
_READ_ONLY = ("in_hot_standby", "default_transaction_read_only")


def pool(connect: Callable[[], RawConnection]) -> Engine:
    """An engine on connections of `connect`. Where the server says that it takes no writes any
    more, in an error or by the way, all of them are made anew."""
    engine = create_engine("postgresql+psycopg2://", creator=connect, pool_size=4, max_overflow=6)
    event.listen(engine, "connect", _note)
    event.listen(engine, "checkout", _compare)
    event.listen(engine, "handle_error", _judge)
    return engine


def _read_only(connection: RawConnection) -> bool:
    return any(connection.get_parameter_status(name) == "on" for name in _READ_ONLY)


def _note(connection: Any, record: Any) -> None:
    record.info["read_only"] = _read_only(connection)


def _compare(connection: Any, record: Any, _proxy: Any) -> None:
    if _read_only(connection) and not record.info["read_only"]:
        raise InvalidatePoolError("the server has become read-only")


def _judge(context: Any) -> None:
    if is_gone(context.original_exception):
        context.is_disconnect = True
