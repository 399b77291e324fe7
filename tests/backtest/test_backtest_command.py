"""The command line: what it prints, and how it refuses."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import backtest
from backtest import Costs, Rules, main, run
from pairs.bars.files import read_bars_csv
from pairs.settings import ROOT
from pairs.storage.postgres import PostgresStore
from tests.support.legs import printed

TRADE = [
    "side",
    "entry_time",
    "exit_time",
    "beta",
    "qty_y",
    "qty_x",
    "entry_y",
    "entry_x",
    "exit_y",
    "exit_x",
    "pnl_y",
    "pnl_x",
    "fees",
    "pnl",
    "bars",
    "exit_reason",
]


def test_json_is_what_run_gives(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(
        capsys,
        [
            *files,
            "--hedge",
            "rolling",
            "--hedge-window",
            "50",
            "--window",
            "30",
            "--entry-z",
            "1.5",
            "--exit-z",
            "0.1",
            "--stop-z",
            "3",
            "--stop-loss",
            "0.01",
            "--max-bars",
            "20",
            "--fee-bps",
            "2",
            "--slippage-bps",
            "1",
            "--notional",
            "5000",
            "--capital",
            "8000",
        ],
    )
    rules = Rules(
        hedge="rolling",
        hedge_window=50,
        window=30,
        entry_z=1.5,
        exit_z=0.1,
        stop_z=3,
        stop_loss=0.01,
        max_bars=20,
        notional=5000,
        capital=8000,
    )
    y, x = (read_bars_csv(Path(path).read_bytes()) for path in files[1::2])
    result = run(y, x, rules, Costs(fee_bps=2, slippage_bps=1))
    assert list(found) == ["parameters", "metrics", "trades", "equity"]
    assert found["parameters"]["stop_loss"] == 0.01
    assert found["parameters"]["beta"] is None
    assert found["metrics"] == {k: None if math.isnan(v) else v for k, v in result.metrics.items()}
    assert len(found["trades"]) == len(result.trades) > 3
    for got, wanted in zip(found["trades"], result.trades.to_dict("records"), strict=True):
        assert list(got) == TRADE
        for name, value in got.items():
            time = name.endswith("_time")
            assert (pd.Timestamp(value) if time else value) == wanted[name]
    assert [pd.Timestamp(time) for time, _ in found["equity"]] == list(result.equity.index)
    assert [value for _, value in found["equity"]] == result.equity.tolist()


def test_no_trade_has_no_sharpe(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, [*files, "--hedge", "fixed", "--beta", "1", "--entry-z", "50"])
    assert found["trades"] == []
    assert found["metrics"]["sharpe"] is None
    assert found["metrics"]["win_rate"] is None
    assert found["metrics"]["trades"] == found["metrics"]["total_pnl"] == 0
    assert found["metrics"]["max_drawdown"] == 0


def test_a_table_for_people(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--preset", "binance-spot-taker", "--from", "2024-01-01T01:00"]) == 0
    out = capsys.readouterr().out
    assert "Sharpe ratio" in out
    assert "Break-even cost per leg and fill" in out
    assert " bps" in out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--hedge", "fixed"], "beta=None"),
        (["--exit-z", "2"], "exit_z=2 is not usable with entry_z=2"),
        (["--stop-z", "1.5"], "stop_z=1.5 is not usable with entry_z=2"),
        (["--fee-bps", "-1"], "fee_bps=-1"),
        (["--slippage-bps", "-0.5"], "slippage_bps=-0.5"),
        (["--window", "400"], "300 bars in common: at least 799"),
        (["--window", "1"], "window=1"),
        (["--max-bars", "0"], "max_bars=0"),
        (["--capital", "0"], "capital=0"),
        (["--notional", "nan"], "notional=nan"),
        (["--from", "yesterday"], "--from 'yesterday' is no time"),
        (["--venue", "local"], "two legs are needed"),
        (["--preset", "binance-usdm-taker", "--fee-bps", "3"], "both name the fee"),
        (["--window", "many"], "--window: invalid int value: 'many'"),
        (["--hedge", "ols"], "invalid choice: 'ols'"),
    ],
)
def test_refusals_are_one_line(
    files: list[str], arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: Any = main([*files, *arguments])
    except SystemExit as leaving:
        code = leaving.code
    out, err = capsys.readouterr()
    assert code == 2
    assert not out
    assert err.startswith("backtest: ")
    assert err.count("\n") == 1
    assert reason in err


def test_missing_and_broken_files(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(files[:2]) == 2
    assert "two legs are needed" in capsys.readouterr().err
    assert main([*files[:3], str(tmp_path / "none.csv")]) == 2
    assert "none.csv" in capsys.readouterr().err
    broken = tmp_path / "broken.csv"
    broken.write_text("timestamp,open,high,low,close,volume\n2024-01-01,1,0.5,1,1,1\n")
    assert main([*files[:3], str(broken)]) == 2
    err = capsys.readouterr().err
    assert "broken.csv: row 2: high" in err
    assert err.count("\n") == 1


@pytest.mark.processes
def test_as_a_program(files: list[str]) -> None:
    command = [sys.executable, str(ROOT / "backtest.py")]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    for option in ("--y-csv", "--hedge-window", "--stop-loss", "--from", "--json"):
        assert option in shown.stdout
    done = subprocess.run(
        [*command, *files, "--hedge", "kalman", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["parameters"]["hedge"] == "kalman"
    assert done.stderr == ""


def test_bars_of_the_database(
    store: PostgresStore,
    database_url: str,
    files: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Uploaded bars give what their files give; larger bars are made of them."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    for symbol, path in zip(("AAA", "BBB"), files[1::2], strict=True):
        store.write_upload(symbol, 60, read_bars_csv(Path(path).read_bytes()))
    source = ["--venue", "upload", "--y", "AAA", "--x", "bbb", "--window", "20"]
    stored = printed(capsys, source)
    assert stored == printed(capsys, [*files, "--window", "20"])
    fives = printed(capsys, [*source, "--bar", "5min", "--to", "2024-01-01T04:30"])
    assert len(fives["equity"]) == 54
    assert main([*source[:4], "--x", "CCC"]) == 2
    assert "no bars of 1min for CCC" in capsys.readouterr().err
    assert main(["--venue", "nyse", "--y", "A", "--x", "B"]) == 2
    assert "venue='nyse'" in capsys.readouterr().err


def test_the_door_exports_what_the_contract_names() -> None:
    for name in ("run", "Rules", "Costs", "Result"):
        assert name in backtest.__all__
