"""What programs say: one event a line, no secrets, nothing that a terminal would obey."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from pairs import messages
from pairs.messages import (
    Lines,
    first_line,
    keep_secret,
    one_line,
    printable,
    take_over,
    without_secrets,
)
from pairs.settings import SettingsError, load_settings

HOSTILE = {
    "a line break": "gone\n2026-01-01 00:00:00,000 ERROR ingest: forged",
    "a carriage return": "gone\r2026-01-01 ERROR forged",
    "an escape sequence": "\x1b[2K\x1b[1Aforged",
    "a line separator": "gone\u2028forged\u2029forged\x85forged",
    "a form feed": "gone\x0cforged\x0bforged\x1cforged",
    "a mark that turns the writing": "gone\u202eforged\u2066",
    "a NUL and a lone surrogate": "gone\x00\ud800",
}


@pytest.fixture(autouse=True)
def _no_secrets_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_secrets", set())


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger that writes as every program does."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(Lines("%(levelname)s %(name)s: %(message)s"))
    logger = logging.Logger("stream")
    logger.addHandler(handler)
    return logger, written


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_text_of_others_stays_within_its_line_and_its_quotes(
    text: str, log: tuple[logging.Logger, io.StringIO]
) -> None:
    logger, written = log
    logger.warning('disconnected reason="%s" next_attempt_s=%.1f', text, 1.5)
    logger.warning(f"disconnected {text}")  # a library that builds its text itself
    lines = written.getvalue().splitlines()  # at every character that any reader takes for an end
    assert len(lines) == 2
    assert all(line.startswith("WARNING stream: disconnected") for line in lines)
    assert all(line.isprintable() for line in lines)
    assert lines[0].endswith('" next_attempt_s=1.5')


def test_a_value_cannot_end_its_quotes(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, written = log
    logger.warning('x reason="%s" n=%d', 'a" state="live\\', 3)
    assert written.getvalue() == 'WARNING stream: x reason="a\\" state=\\"live\\\\" n=3\n'


def test_a_traceback_is_whole_and_no_line_of_it_looks_like_an_event(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, written = log
    keep_secret("hunter22")
    try:
        raise RuntimeError("first\n2026-01-01 ERROR forged postgresql://u:x@h/d hunter22\x1b[0m")
    except RuntimeError:
        logger.exception("failed")
    first, *rest = written.getvalue().splitlines()
    assert first == "ERROR stream: failed"
    assert all(line.startswith("    ") for line in rest)
    text = "\n".join(rest)
    assert "test_messages.py" in text
    assert "RuntimeError: first" in text
    assert "hunter22" not in text
    assert "u:x@" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    "text",
    [
        'invalid dsn: missing "=" after "postgresql+x://me:hunter22@host/db" in connection info',
        "postgresql://me:hun@ter22@host/db is no address",
        "connect to host=db password=hunter22 user=me failed",
        "connect to host=db password='hunter22 \\' more' user=me failed",
        "GET https://me:hunter22@proxy:8080/ failed",
        "wss://hunter22@host:9443 isn't a valid URI",
        "https://host/path?token=hunter22&x=1",
        "postgresql://h/db?user=me&password=hunter22",
    ],
)
def test_secrets_are_cut_where_secrets_stand(text: str) -> None:
    shown = one_line(RuntimeError(text))
    assert "hunter22" not in shown
    assert "ter22" not in shown
    assert "host" in shown or "proxy" in shown or "//h/" in shown


def test_a_known_secret_is_cut_wherever_it_stands_and_however_it_is_written() -> None:
    load_settings({"DATABASE_URL": "postgresql://me:p%40ss%2Fword@host/db"})
    for form in ("p%40ss%2Fword", "p@ss/word"):
        assert without_secrets(f"could not translate {form} to address") == (
            "could not translate *** to address"
        )


def test_the_log_of_a_package_with_handlers_of_its_own_is_taken_over() -> None:
    """Streamlit gives each of its loggers a handler that would write a line break as it is."""
    logger, stream = logging.getLogger("foreign_package.part"), io.StringIO()
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        take_over("foreign_package")
        logger.error("body: %s", "x\n2026-01-01 INFO forged: all is well")
    finally:
        logger.removeHandler(handler)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert "x\\n2026-01-01" in lines[0]


def test_what_an_error_says_first_is_shown_of_a_lost_server() -> None:
    libpq = "connection to server failed: refused\n\tIs the server running?\n"
    assert first_line(OSError(libpq)) == "connection to server failed: refused"
    assert first_line(OSError("\n")) == "OSError"
    assert first_line(OSError("password=hunter22 \x1b[2J\nhint")) == "password=*** \\x1b[2J"


def test_ordinary_text_stays_as_it_is() -> None:
    text = "connected url=ws://127.0.0.1:9500/stream?streams=btcusdt@trade symbols=2 β ≥ 2σ “ok”"
    assert printable(without_secrets(text)) == text
    assert one_line(ValueError("")) == "ValueError"


BAD_URLS = {
    "postgresql://me:hunter@22@host/db": "an @ or /",
    "postgresql://me:hunter/22@host/db": "an @ or /",
    "postgresql://me:hunter%22hunter%@host/db": "a %",
    "postgresql://me:hunter?x@22@host/db": "an @ or /",
    "postgresql://me:12/2?host=3hunter@host/db": "an @ or /",
    "postgresql://me:1/hunter@one:1,two:2/db": "an @ or /",
    "postgresql://me:hunter22@one:1,two:2,three:x/db": "port",
    "host=one,two,three port=1,2 password=hunter22": "one for each host",
    "postgresql://me:hunter22@host:high/db": "port",
    "postgresql://me:hunter22@host:99999/db": "port",
    "postgresql://me:hunter22": "port",
    "postgresql://me:hunter22@host/db?mode=1": "unknown parameter",
    "postgresql+psycopg2://me:hunter22@host/db": "does not begin with postgresql://",
    "me:hunter22@host/db": "does not begin with postgresql://",
    "host=db user=me password=hunter22 hunter": "no list of key=value that libpq can read",
    "host=db user=me pass=hunter22": "names an unknown key",
    "host=db user=me password='hunter22": "no list of key=value that libpq can read",
    "user=me password=hunter22": "neither host nor database",
    "mysql://me:hunter22@host/db": "does not begin with postgresql://",
}


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_database_url_is_refused_without_its_value(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"DATABASE_URL": url})
    text = str(caught.value)
    assert text.startswith("DATABASE_URL is not usable: ")
    assert BAD_URLS[url] in text
    assert "postgresql://host:port/database" in text
    assert "hunter" not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "url",
    [
        "postgres://me:hunter22@host/db",
        "postgresql://me:h%40%3A%2F%23%25%20@host:5433/db",
        "postgresql://me:hunter#22?x:y@host/db",  # as libpq reads it, without doubt
        "postgresql://me:hunter22@[::1]:5433/db?sslmode=require",
        "postgresql://one:5432,two:5433/db",
        "postgresql:///db?host=/run/postgresql&password=hunter22",
        "postgresql://%2Frun%2Fpostgresql:5433/db",
        "postgresql://me:hunter 22@[::1]:5432,[fe80::1%25eth0]:5433/db?target_session_attrs=any",
        "postgresql://me:hunter[2]2=&é✓@host?dbname=db",
        "postgresql://?service=desk",
        "service=desk password=hunter22",
        "host=one,two port=5432,5433 user=me password='hun\\'ter @/:22' dbname=db",
        "postgresql://me:hunter22@host/db?options=-c%20search_path%3Ddesk",
    ],
)
def test_what_libpq_takes_is_taken(url: str) -> None:
    assert load_settings({"DATABASE_URL": url}).database_url == url


def test_no_form_of_an_accepted_password_is_shown() -> None:
    url = "postgresql://me:hun%2fter 2\t2@host/db"
    load_settings({"DATABASE_URL": url})
    for text in (url, "hun/ter 2\t2", "hun/ter 2 2", "hun%2Fter%202%092"):
        assert "ter" not in one_line(f"could not translate {text} to address").replace("late", "")


def test_where_the_environment_names_the_database_an_address_may_leave_it_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGHOST", "/run/postgresql")
    monkeypatch.setenv("PGPASSWORD", "hunter22")
    assert load_settings({"DATABASE_URL": "postgresql://"}).database_url == "postgresql://"
    assert without_secrets("hunter22") == "***"


def test_addresses_of_the_exchange_are_refused_without_what_stands_before_their_host() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"BINANCE_WS_URL": "http://me:hunter22@host"})
    assert "hunter22" not in str(caught.value)
