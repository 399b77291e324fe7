"""What can be made to go wrong, switchable while the exchange runs.

Chances are decided per (seed, symbol, id, kind), not by a running generator: every connection
misses the same trades and a run can be repeated. A frame that is dropped or garbled stays on
the tape, and REST tells it truly.

Fields are plain attributes: assigning one from another thread is safe. One-off events go
through `do`.
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from exchange.frames import Changed, Message, ws_frame

_SCALE = 2.0**32
MANGLES = (
    "truncated",
    "utf8",
    "binary",
    "number",
    "nan",
    "empty",
    "negative",
    "zero",
    "decimals30",
    "unknown",
    "missing_m",
)
INJECTIONS = {
    "null": b"null",
    "list": b"[]",
    "object": b"{}",
    "truncated": b'{"e":"trade","E":17234',
    "utf8": b'{"e":"trade","s":"\xff\xfe"}',
    "text": b"not json",
    "error": b'{"code":2,"msg":"Invalid request: property name must be a string","id":1}',
    "error_wrapped": b'{"error":{"code":4,"msg":"Too many subscriptions"},"id":19}',
    "other_symbol": b'{"stream":"zzzusdt@trade","data":{"e":"trade","E":1,"s":"ZZZUSDT","t":1,'
    b'"p":"1.00000000","q":"1.00000000","T":1,"m":true,"M":true}}',
}


class Ids:
    """A set of ids written as ranges: `100-150,160`; a falsy one is empty."""

    def __init__(self, text: str = "") -> None:
        self.ranges: list[range] = []
        for part in filter(None, text.replace(" ", "").split(",")):
            first, _, last = part.partition("-")
            if not first.isdigit() or not (last or first).isdigit():
                raise ValueError(f"ids {text!r} are malformed: allowed is like 100-150,160")
            self.ranges.append(range(int(first), int(last or first) + 1))

    def __contains__(self, number: object) -> bool:
        return any(number in part for part in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __str__(self) -> str:
        return ",".join(f"{r[0]}-{r[-1]}" for r in self.ranges)


def close_code(text: str) -> int:
    """A close code that may be sent, or 1006 for a reset; ValueError otherwise."""
    code = int(text) if text.isdigit() else -1
    if code not in {*range(1000, 1004), *range(1006, 1015), *range(3000, 5000)}:
        raise ValueError(
            f"close code {text!r} is not usable: allowed are 1000-1003, 1006-1014, 3000+"
        )
    return code


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens once: `name:value@which`."""

    name: str
    value: str
    which: str


def parsed_event(text: str) -> Event:
    """An event from its text; ValueError where it cannot be carried out."""
    head, _, which = text.partition("@")
    name, _, value = head.partition(":")
    if name == "close":
        close_code(value or "1001")
    elif name in ("shutdown", "skip"):
        float(value or 0)
    elif name == "inject":
        injection(value)
    elif name not in ("abort", "half_open", "stall"):
        raise ValueError(f"unknown event {text!r}: see Faults.do")
    if name != "skip" and which not in ("", "oldest", "newest") and not which.isdecimal():
        raise ValueError(f"connection {which!r} is not usable: oldest, newest or 1, 2… is allowed")
    return Event(name, value, which)


def _ids() -> Ids:
    return Ids()


@dataclass
class Faults:
    """All faults; the defaults are none.

    Trade frames: `drop`, `duplicate`, `reorder`, `conflict`, `mangle` are chances, each with a
    set `…_ids` to hit exactly; `reorder_by` is how many later frames overtake, `mangle_as` one
    of `MANGLES`, `void_ids` are ids that neither stream nor REST ever tells.
    Streams: `stall` (no data, pings answered), `silence` (stream names that fall silent),
    `mute` (connections opened meanwhile are acknowledged and never get data),
    `ignore_unsubscribe`, `ack_delay_s`, `wrapped_errors`.
    Connections: `close_code` every `close_every_frames` or `close_every_s` (1006: reset in the
    middle of a frame), `handshake_status` for the next `handshake_times` (−1: all).
    REST: `rest_status` with `rest_retry_after`, `rest_body` (html, truncated, empty) and
    `rest_delay_s` for the next `rest_times` requests (−1: all), `rest_lag` trades behind the
    stream, `retention_floor` (an id: earlier ones are gone), `weight_limit`.
    """

    seed: int = 0
    drop: float = 0.0
    drop_ids: Ids = field(default_factory=_ids)
    duplicate: float = 0.0
    duplicate_ids: Ids = field(default_factory=_ids)
    reorder: float = 0.0
    reorder_ids: Ids = field(default_factory=_ids)
    reorder_by: int = 3
    conflict: float = 0.0
    conflict_ids: Ids = field(default_factory=_ids)
    mangle: float = 0.0
    mangle_ids: Ids = field(default_factory=_ids)
    mangle_as: str = "truncated"
    void_ids: Ids = field(default_factory=_ids)
    symbols: frozenset[str] = frozenset()
    stall: bool = False
    silence: frozenset[str] = frozenset()
    mute: bool = False
    ignore_unsubscribe: bool = False
    ack_delay_s: float = 0.0
    wrapped_errors: bool = False
    close_code: int = 1006
    close_every_frames: int = 0
    close_every_s: float = 0.0
    handshake_status: int = 0
    handshake_times: int = -1
    rest_status: int = 0
    rest_retry_after: int = 1
    rest_body: str = ""
    rest_delay_s: float = 0.0
    rest_times: int = -1
    rest_paths: frozenset[str] = frozenset()
    rest_lag: int = 0
    retention_floor: int = 0
    weight_limit: int = 0

    def __post_init__(self) -> None:
        self._events: deque[Event] = deque()
        self._held: list[list[Any]] = []
        self._skip: dict[str, int] = {}

    # -- switching

    def set(self, name: str, value: str) -> None:
        """Set a field from text; ValueError where name or value cannot be used."""
        kinds = {f.name: type(getattr(self, f.name)) for f in fields(self)}
        if name not in kinds:
            raise ValueError(f"unknown fault {name!r}: allowed are {', '.join(kinds)}")
        kind = kinds[name]
        if kind is bool:
            if value.lower() not in ("0", "1", "true", "false"):
                raise ValueError(f"{name}={value!r} is not usable: 0 or 1 is allowed")
            setattr(self, name, value.lower() in ("1", "true"))
        elif kind is frozenset:
            setattr(self, name, frozenset(filter(None, value.split(","))))
        elif name == "mangle_as" and value not in MANGLES:
            raise ValueError(f"mangle_as={value!r} is not usable: allowed are {', '.join(MANGLES)}")
        elif name == "close_code":
            self.close_code = close_code(value)
        else:
            try:
                setattr(self, name, kind(value))
            except ValueError as error:
                raise ValueError(f"{name}={value!r} is not usable: {error}") from None

    def do(self, event: str) -> None:
        """Have something happen once, soon; safe from any thread.

        `close:1001`, `abort` (reset in the middle of a frame), `half_open`, `stall` (these
        connections only), `shutdown:<lead seconds>`, `skip:<frames>[@SYMBOL]` (the next trade
        frames of each symbol are lost), `inject:<one of INJECTIONS, binary, huge>`. All but
        `skip` concern every open connection, or one: `close:1001@oldest`, `@newest`, `@3` (the
        third that was opened).
        """
        self._events.append(parsed_event(event))

    def next_event(self) -> Event | None:
        """Take the next one-off event."""
        return self._events.popleft() if self._events else None

    def skip(self, value: str, symbols: list[str]) -> None:
        """Lose the next frames of one symbol, or of each."""
        count, _, symbol = value.partition("@")
        for name in [symbol] if symbol else symbols:
            self._skip[name] = self._skip.get(name, 0) + int(count or 1)

    def describe(self) -> dict[str, Any]:
        """All settings as plain data."""
        plain = asdict(self)
        for name, value in plain.items():
            if isinstance(value, Ids):
                plain[name] = str(value)
            elif isinstance(value, frozenset):
                plain[name] = sorted(value)
        return plain

    # -- trade frames

    def _hit(self, kind: str, message: Message, chance: float, ids: Ids) -> bool:
        if ids and message.trade_id in ids:
            return True
        if chance <= 0:
            return False
        key = f"{self.seed}/{kind}/{message.symbol}/{message.trade_id}".encode()
        return zlib.crc32(key) / _SCALE < chance

    def _quiet(self) -> bool:
        chances = self.drop + self.duplicate + self.reorder + self.conflict + self.mangle
        sets = (self.drop_ids, self.duplicate_ids, self.reorder_ids, self.conflict_ids)
        more = (self.mangle_ids, self.void_ids, self.silence, self._held, self._skip)
        return not (self.stall or chances > 0 or any(sets) or any(more))

    def apply(self, batch: list[Message]) -> list[Message]:
        """The batch as it goes out."""
        if self._quiet():
            return batch
        if self.stall:
            return []
        out: list[Message] = []
        for message in batch:
            if message.stream not in self.silence:
                for single in message.split():
                    self._pass(single, out)
        return out

    def _pass(self, message: Message, out: list[Message]) -> None:
        if message.trade_id is None:
            out.append(message)
            return
        chosen = not self.symbols or message.symbol in self.symbols
        if chosen and self._lost(message):
            return
        if chosen and self._hit("reorder", message, self.reorder, self.reorder_ids):
            self._held.append([self.reorder_by, message])
            return
        if chosen and self._hit("mangle", message, self.mangle, self.mangle_ids):
            message = mangled(message, self.mangle_as)
        out.append(message)
        if chosen and self._hit("duplicate", message, self.duplicate, self.duplicate_ids):
            out.append(message)
        if chosen and self._hit("conflict", message, self.conflict, self.conflict_ids):
            out.append(_other_price(message))
        self._release(message.stream, out)

    def _lost(self, message: Message) -> bool:
        left = self._skip.get(message.symbol, 0)
        if left:
            self._skip[message.symbol] = left - 1
            if left == 1:
                del self._skip[message.symbol]
            return True
        return message.trade_id in self.void_ids or self._hit(
            "drop", message, self.drop, self.drop_ids
        )

    def _release(self, stream: str, out: list[Message]) -> None:
        for item in self._held:
            if item[1].stream == stream:
                item[0] -= 1
                if item[0] <= 0:
                    out.append(item[1])
        self._held = [item for item in self._held if item[0] > 0]

    # -- REST and handshakes

    def take_handshake(self) -> int:
        """HTTP status to refuse the next handshake with, 0 for none."""
        if not self.handshake_status or not self.handshake_times:
            return 0
        if self.handshake_times > 0:
            self.handshake_times -= 1
        return self.handshake_status

    def take_rest(self, path: str) -> bool:
        """Whether the REST faults hit this request."""
        if not (self.rest_status or self.rest_body or self.rest_delay_s) or not self.rest_times:
            return False
        if self.rest_paths and path.rpartition("/")[2] not in self.rest_paths:
            return False
        if self.rest_times > 0:
            self.rest_times -= 1
        return True


def _value_of(raw: bytes, key: bytes) -> bytes:
    """The text of a top-level string value such as `"p":"1.0"`, quotes included."""
    start = raw.index(b'"%s":"' % key) + len(key) + 3
    return raw[start : raw.index(b'"', start + 1) + 1]


def _other_price(message: Message) -> Message:
    """The same id with its price one hundredth higher."""

    def change(raw: bytes) -> bytes:
        value = _value_of(raw, b"p")
        whole, _, part = value.strip(b'"').decode().partition(".")
        units = int(whole + part.ljust(8, "0")) * 101 // 100
        text = f'"{units // 10**8}.{units % 10**8:08d}"'.encode()
        return raw.replace(b'"p":' + value, b'"p":' + text, 1)

    return Changed(message, change)


def mangled(message: Message, kind: str) -> Message:
    """The message damaged in one of the ways of `MANGLES`."""
    if kind == "truncated":
        return Changed(message, lambda body: body[: len(body) * 2 // 3], whole=True)
    if kind == "utf8":
        return Changed(message, lambda raw: raw.replace(b'"s":"', b'"s":"\xff\xfe', 1))
    if kind == "binary":
        return Changed(message, lambda body: body, opcode=0x2)
    if kind == "missing_m":
        return Changed(message, lambda raw: raw.replace(b',"M":true', b"", 1))
    if kind == "unknown":
        extra = b',"nq":"1","st":3,"zz":{"a":[1,null]}}'
        return Changed(message, lambda raw: raw[:-1] + extra)
    return Changed(message, lambda raw: _with_price(raw, kind))


def _with_price(raw: bytes, kind: str) -> bytes:
    """The event with its price written in one of the ways it must not be."""
    price = _value_of(raw, b"p")
    number = price.strip(b'"')
    written = {
        "number": number,
        "nan": b'"NaN"',
        "empty": b'""',
        "negative": b'"-%s"' % number,
        "zero": b'"0.00000000"',
        "decimals30": b'"%s0000000000000000000001"' % number,
    }[kind]
    return raw.replace(b'"p":' + price, b'"p":' + written, 1)


def injection(kind: str) -> bytes:
    """The framed bytes of an injected message."""
    if kind == "binary":
        return ws_frame(bytes(range(256)), opcode=0x2)
    if kind == "huge":
        return ws_frame(b'{"e":"huge","x":"' + b"x" * 10_000_000 + b'"}')
    if kind not in INJECTIONS:
        allowed = ", ".join([*INJECTIONS, "binary", "huge"])
        raise ValueError(f"unknown injection {kind!r}: allowed are {allowed}")
    return ws_frame(INJECTIONS[kind])
