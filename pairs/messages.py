"""What programs say: one line, without secrets, with nothing that could pass for another line.

Texts of exchanges, servers and files end in logs, on the page and on stderr. Here is the one place
that makes them fit to be shown; whoever shows an error goes through `one_line`, whoever logs
through `start_logging`.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import threading
import traceback
from numbers import Number
from types import TracebackType
from urllib.parse import quote, unquote

CANNOT = 2  # exit code: never as configured, somebody has to change something
NOT_NOW = 3  # exit code: something that is needed is away; worth another try
INTERRUPTED = 130  # exit code: Ctrl-C, as shells say it
HIDDEN = "***"
LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
SHORTEST_SECRET = 4  # a shorter one would blot out ordinary words; its forms are cut all the same

_secrets: set[str] = set()

# Whoever stands before the @ of an address, with or without a password: a token looks the same.
_IN_ADDRESS = re.compile(r"(?<=://)[^\s/]*@")
# password=… as libpq writes it, quoted or not, and as the query of an address has it.
_IN_PAIRS = re.compile(
    r"""((?:password|passwd|pwd|token|secret|api_?key)\s*=\s*)"""
    r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s&'"]+)""",
    re.IGNORECASE,
)
# Controls (escape sequences begin with one), line and paragraph separators, marks that turn the
# direction of writing, and lone surrogates.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def keep_secret(text: str | None) -> None:
    """Never show `text`, nor its percent-encoded or decoded form, from now on."""
    for form in (text, quote(text, safe=""), unquote(text)) if text else ():
        shown = " ".join(form.split())  # as `one_line` has it
        _secrets.update(known for known in (form, shown) if len(known) >= SHORTEST_SECRET)


def without_secrets(text: str) -> str:
    """The text without passwords: those known, and those that stand where passwords stand."""
    text = _IN_ADDRESS.sub(f"{HIDDEN}@", text)
    text = _IN_PAIRS.sub(rf"\1{HIDDEN}", text)
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def printable(text: str) -> str:
    """The text with everything shown that a terminal or a log would obey instead of show."""
    return _UNPRINTABLE.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return (
        character.encode("unicode_escape").decode()
        if character < "\ud800"
        else (f"\\u{ord(character):04x}")
    )


def one_line(error: BaseException | str) -> str:
    """An error's message fit to be shown: one line, no secret, nothing unprintable."""
    text = " ".join(str(error).split())
    return printable(without_secrets(text)) or type(error).__name__


def first_line(error: BaseException) -> str:
    """What an error says first: libpq writes its hints on lines of their own."""
    return one_line(str(error).strip().partition("\n")[0] or type(error).__name__)


class Lines(logging.Formatter):
    """One event a line. What comes with it (`%s`) can neither end the line nor its quotes; a
    traceback follows, indented, so that no line of it looks like an event."""

    def format(self, record: logging.LogRecord) -> str:
        shown = logging.makeLogRecord(record.__dict__)
        if isinstance(record.args, tuple):
            shown.args = tuple(map(_quotable, record.args))
        shown.msg, shown.args = printable(without_secrets(shown.getMessage())), None
        shown.exc_info = shown.exc_text = shown.stack_info = None
        text = super().format(shown)
        if record.exc_info and record.exc_info[0] is not None:
            text += "\n" + indented(*record.exc_info)
        return text


def _quotable(value: object) -> object:
    """A value as it may stand between quotes; numbers stay numbers for %d and %g."""
    if isinstance(value, Number):
        return value
    return str(value).replace("\\", "\\\\").replace('"', '\\"')


def indented(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> str:
    """A traceback fit to be shown, every line of it indented."""
    lines = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n").split("\n")
    return "\n".join("    " + printable(without_secrets(line)) for line in lines)


def start_logging(level: str) -> None:
    """The log of a program: stderr, one event a line. What nobody caught goes there too."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines(LINE))
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(True)
    for name in ("httpx", "httpcore", "websockets"):  # their addresses may hold passwords
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    watch_uncaught()


def take_over(package: str) -> None:
    """Let the handlers that a package has given its own loggers write as ours do."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.split(".")[0] == package and isinstance(logger, logging.Logger):
            for handler in logger.handlers:
                handler.setFormatter(Lines(LINE))


def watch_uncaught() -> None:
    """An error that nobody caught is shown like every other: without secrets."""

    def uncaught(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        print(f"{kind.__name__}, not foreseen:\n{indented(kind, error, trace)}", file=sys.stderr)

    def in_thread(what: threading.ExceptHookArgs) -> None:
        if what.exc_type is not SystemExit:
            uncaught(what.exc_type, what.exc_value or what.exc_type(), what.exc_traceback)

    sys.excepthook = uncaught
    threading.excepthook = in_thread


def noted(program: str, text: str) -> None:
    """Say something that is no failure: on stdout, for stderr tells only why a program ends."""
    print(f"{program}: {one_line(text)}", flush=True)


def failed(program: str, error: BaseException | str) -> None:
    """Say in one line on stderr why a program ends. Where stdout itself has failed (a closed
    pipe, a full disk), what still waits for it is dropped rather than tried again at the exit."""
    print(f"{program}: {one_line(error)}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def exit_code(error: BaseException) -> int:
    """The exit code for an error that ends a program: what it says itself (`exit_code`), NOT_NOW
    where the system's refusal may pass (a full disk, too many open files), else CANNOT."""
    passing = (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EIO,
        errno.EAGAIN,
        errno.EINTR,
    )
    may_pass = isinstance(error, OSError) and error.errno in passing
    return int(getattr(error, "exit_code", NOT_NOW if may_pass else CANNOT))
