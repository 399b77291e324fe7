"""Settings: defaults, precedence, and refusals that say what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pairs.settings import DEFAULTS, ROOT, Parser, SettingsError, load_settings, read_environment


def test_defaults() -> None:
    settings = load_settings({})
    assert settings.database_url is None
    assert settings.symbols[:2] == ("BTCUSDT", "ETHUSDT")
    assert settings.streamlit_refresh_ms == 1000
    assert settings.binance_ws_url == "wss://stream.binance.com:9443"
    assert settings.exchange_venue == "binance"
    assert load_settings({"MARKET": "usdm"}).exchange_venue == "binance-usdm"


@pytest.mark.parametrize(
    ("key", "value", "write"),
    [
        (
            "BINANCE_REST_URL",
            "https://testnet.binance.vision/api",
            "https://testnet.binance.vision",
        ),
        ("BINANCE_REST_URL", "https://api.binance.com/api/v3/", "https://api.binance.com"),
        ("BINANCE_REST_URL", "http://[::1]:8080/fapi", "http://[::1]:8080"),
        ("BINANCE_REST_URL", "http://127.0.0.1:9?key=secret", "http://127.0.0.1:9"),
        ("BINANCE_REST_URL", "http://127.0.0.1:9/#secret", "http://127.0.0.1:9"),
        ("BINANCE_REST_URL", "http://me:secret@proxy/api", "http://proxy"),
        ("BINANCE_REST_URL", "http://127.0.0.1:9?", "http://127.0.0.1:9"),
        (
            "BINANCE_WS_URL",
            "wss://stream.testnet.binance.vision/ws",
            "wss://stream.testnet.binance",
        ),
        ("BINANCE_WS_URL", "wss://fstream.binance.com/market", "wss://fstream.binance.com"),
        ("BINANCE_WS_URL", "wss://h:9443/stream?streams=secret", "wss://h:9443"),
    ],
)
def test_an_address_with_a_path_or_query_is_refused_with_what_to_write(
    key: str, value: str, write: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"allowed is {write}")) as refusal:
        load_settings({key: value})
    shown = "***" if set("@?#") & set(value) else value
    assert str(refusal.value).startswith(f"{key}={shown!r}")
    assert "secret" not in str(refusal.value)
    assert "are appended" in str(refusal.value)


def test_an_address_may_end_with_a_slash() -> None:
    assert load_settings({"BINANCE_REST_URL": "http://h:1/"}).binance_rest_url == "http://h:1"


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("MARKET", "futures", "spot or usdm"),
        ("FEED", "yes", "auto or binance or local"),
        ("FLUSH_MS", "0", "an integer from 10 to 10000"),
        ("FLUSH_MS", "1.5", "an integer"),
        ("STREAMLIT_REFRESH_MS", "fast", "an integer from 250"),
        ("HISTORY_HOURS", "nan", "a number from 0"),
        ("TICK_RETENTION_DAYS", "-1", "a number"),
        ("METRICS_PORT", "70000", "an integer from 1 to 65535"),
        ("SYMBOLS", ";drop table", "comma-separated"),
        ("SYMBOLS", ",", "1 to 1024 symbols"),
        ("BINANCE_WS_URL", "http://x", "ws://host"),
        ("BINANCE_REST_URL", "x", "http://host"),
        ("DATABASE_URL", "mysql://root:secret@h/db", "postgresql://host"),
        ("LOG_LEVEL", "LOUD", "debug or info"),
    ],
)
def test_what_cannot_be_used_is_refused_with_key_value_and_what_is_allowed(
    key: str, value: str, allowed: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({key: value})
    text = str(caught.value)
    assert key in text
    assert allowed in text
    assert "secret" not in text


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text("FLUSH_MS=50\nSYMBOLS=btcusdt, ethusdt\n")
    monkeypatch.setenv("FLUSH_MS", "200")
    settings = load_settings(read_environment(file))
    assert settings.flush_ms == 200
    assert settings.symbols == ("BTCUSDT", "ETHUSDT")


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-16", "it is UTF-16"),
        ("utf-16-le", "zero bytes"),
        ("utf-16-be", "zero bytes"),
        ("utf-32", "UTF-16"),
        ("latin-1", "byte 3 belongs to another encoding"),
        ("cp1252", "byte 3 belongs to another encoding"),
    ],
)
def test_a_file_that_is_no_utf8_is_refused_by_what_it_is(
    tmp_path: Path, encoding: str, said: str
) -> None:
    """A setting that is silently left out would be worse than any refusal."""
    file = tmp_path / ".env"
    plain = "FLUSH_MS=50\n" if encoding.startswith("utf") else "# é\nFLUSH_MS=50\n"
    file.write_bytes(plain.encode(encoding))
    with pytest.raises(SettingsError, match="cannot be read as UTF-8 text") as caught:
        read_environment(file)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mark_at_the_beginning_of_the_file_is_no_part_of_a_key(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes("FLUSH_MS=50\r\nDATA_DIR=é\r\n".encode("utf-8-sig"))
    values = read_environment(file)
    assert (values["FLUSH_MS"], values["DATA_DIR"]) == ("50", "é")
    assert read_environment(tmp_path / "none").get("FLUSH_MS") is None
    with pytest.raises(SettingsError, match="cannot be read"):
        read_environment(tmp_path)


def test_every_key_stands_in_the_example_with_its_default() -> None:
    text = (ROOT / ".env.example").read_text()
    found = dict(re.findall(r"^#? ?([A-Z_]+)=(.*)$", text, re.MULTILINE))
    assert found == DEFAULTS


def test_a_database_behind_a_socket_file() -> None:
    url = "postgresql:///pairs?host=/run/postgresql"
    assert load_settings({"DATABASE_URL": url}).database_url == url
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        load_settings({"DATABASE_URL": "postgresql:///"})


def test_a_command_line_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Parser(prog="daemon").parse_args(["--bogus"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "daemon: unrecognized arguments: --bogus; see --help\n"
