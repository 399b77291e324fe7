"""The report is one file that needs nothing; pictures keep what they thin out."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from backtest import Costs, Rules, main, run
from pairs.backtest.metrics import METRICS
from pairs.backtest.report import RUINED, metric_text, metrics_text, shown_curve
from pairs.backtest.walk_forward import walk_forward
from pairs.figures.backtest import shown_rows, signals_figure
from pairs.figures.report import html_report
from tests.support.legs import BASE, COSTS, candidates, leg, legs, printed


def test_one_file_without_any_address() -> None:
    y, x = legs()
    walk = walk_forward(y, x, candidates(), COSTS, train=300, test=150)
    page = html_report(run(y, x, BASE, COSTS), title="A <b> & C", walk=walk)
    assert "A &lt;b&gt; &amp; C" in page
    assert "//" not in re.sub(r"https://plotly.com|//\s", "", page.replace(get_plotlyjs(), ""))
    assert page.count('class="plotly-graph-div"') == 4
    assert "in-sample" in page
    assert "out of sample" in page
    (data,) = re.findall(r'id="backtest">(.*?)</script>', page)
    found = json.loads(data)
    assert found["parameters"]["window"] == BASE.window
    assert set(found["metrics"]) == set(METRICS)
    assert f"{walk.deflated.probability:.1%}" in page


def test_thinned_lines_keep_their_extremes() -> None:
    values = np.random.default_rng(0).normal(0, 1, 50_000).cumsum()
    values[1000:2000] = math.nan
    rows = shown_rows(values, 1000)
    assert len(rows) <= 1002
    assert (rows[0], rows[-1]) == (0, 49_999)
    assert np.nanmax(values[rows]) == np.nanmax(values)
    assert np.nanmin(values[rows]) == np.nanmin(values)
    assert shown_rows(values[:10]).tolist() == list(range(10))


def test_every_decision_is_marked() -> None:
    result = run(*legs(), Rules(window=20, entry_z=1.0, stop_z=2.0, max_bars=9), COSTS)
    drawn = {trace.name: len(trace.x) for trace in signals_figure(result).data}
    counts = result.signals["action"].value_counts()
    assert drawn["long entry"] == counts["long"]
    assert drawn["stop"] == counts["stop_z"] + counts["max_bars"]


def test_units_stand_beside_the_figures() -> None:
    assert metric_text("total_return", 0.1234) == "12.34 %"
    assert metric_text("sharpe", math.nan) == "–"
    assert metric_text("trades", 1234) == "1,234"
    assert metric_text("break_even_bps", 1.5) == "1.5 bps"


def test_ruin_is_told_and_no_ratio_of_returns_with_it() -> None:
    result = run(*legs(), Rules(window=20, entry_z=0.5, capital=1000), Costs(fee_bps=250))
    assert math.isfinite(result.metrics["sharpe"])  # the contract's formula has a value
    text, report = metrics_text(result.metrics), html_report(result, luck="more than luck")
    assert text.endswith(RUINED)
    assert RUINED in report
    assert "more than luck" not in report
    for name in ("sharpe", "sortino", "volatility", "calmar", "cagr"):
        label = METRICS[name].label
        assert re.search(rf"^{re.escape(label)} +–$", text, re.MULTILINE), text
        assert f"<td>{label}</td><td>–</td>" in report
    assert RUINED not in metrics_text(run(*legs(), BASE, COSTS).metrics)


def test_a_lost_account_is_drawn_at_nothing_from_then_on() -> None:
    value, lost = shown_curve([100.0, 50.0, -20.0, 30.0], [0.0, 0.5, 1.2, 0.7])
    assert value.tolist() == [100.0, 50.0, 0.0, 0.0]
    assert lost.tolist() == [0.0, 0.5, 1.0, 1.0]
    value, lost = shown_curve([100.0, 50.0], [0.0, 0.5])
    assert (value.tolist(), lost.tolist()) == ([100.0, 50.0], [0.0, 0.5])


def test_search_on_the_command_line(
    files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = tmp_path / "report.html"
    search = [
        "--window",
        "20",
        "--fee-bps",
        "1",
        "--grid",
        "entry_z=1,1.5",
        "--grid",
        "stop-z=2.5,none",
        "--walk-forward",
        "120,60",
    ]
    found = printed(capsys, [*files, *search, "--report", str(page)])
    assert [(row["entry_z"], row["stop_z"]) for row in found["grid"]] == [
        (1.0, 2.5),
        (1.0, None),
        (1.5, 2.5),
        (1.5, None),
    ]
    walk = found["walk_forward"]
    # The run's own rules, which stand in no grid, were looked at too.
    assert walk["deflated_sharpe"]["trials"] == found["deflated_sharpe"]["trials"] == 5
    assert (walk["given"], walk["heading"]) == ([], "out of sample")
    assert len(walk["folds"]) == 3
    assert page.stat().st_size > 1_000_000
    assert main([*files, *search]) == 0
    out = capsys.readouterr().out
    assert "Best of 4 tried, in-sample" in out
    assert "Walk-forward, out of sample, 3 pieces" in out
    for wrong in (
        ["--grid", "speed=1"],
        ["--grid", "window=9", "--grid", "window=8"],
        ["--grid", "entry_z=a"],
        ["--walk-forward", "5"],
        ["--walk-forward", "290,60,3"],
        ["--walk-forward", "400,60"],
    ):
        assert main([*files, *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_funding_from_files(
    files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rates = tmp_path / "rates.csv"
    rates.write_text("timestamp,rate\n2024-01-01T01:00Z,0.01\n2024-01-01T02:00Z,-0.02\n")
    found = printed(
        capsys,
        [
            *files,
            "--window",
            "20",
            "--entry-z",
            "0.5",
            "--exit-z",
            "-0.5",
            "--funding-y-csv",
            str(rates),
        ],
    )
    assert found["metrics"]["funding"] != 0
    assert found["parameters"]["funding_y_rates"] == 2
    assert sum(t["funding"] for t in found["trades"]) == pytest.approx(found["metrics"]["funding"])


def test_funding_times_are_read_as_those_of_bars(
    files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """ISO-8601, epochs in s, ms and µs, in any order of rows and columns."""
    rates, found = tmp_path / "rates.csv", []
    for first, second in (
        ("2024-01-01T01:00Z", "2024-01-01 02:00"),
        ("1704070800", "1704074400"),
        ("1704070800000", "1704074400000"),
        ("1704070800000000", "1704074400000000"),
        ("20240101010000", "20240101020000"),
    ):
        rates.write_text(f"Rate,Timestamp,mark\n-0.02,{second},1\n0.01,{first},1\n")
        found.append(
            printed(
                capsys,
                [
                    *files,
                    "--window",
                    "20",
                    "--entry-z",
                    "0.5",
                    "--exit-z",
                    "-0.5",
                    "--funding-y-csv",
                    str(rates),
                ],
            )
        )
    assert found[0]["metrics"]["funding"] != 0
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("time,rate\n1,2\n", "timestamp"),
        ("timestamp,rate\n1,0.1\n", "row 2: timestamp '1' is no date and no epoch"),
        ("timestamp,rate\n2024-01-01,0.1\n1704070800,0.1\n", "row 3: timestamp '1704070800' is"),
        ("timestamp,rate\n2024-01-01,much\n", "row 2: rate 'much' is no number"),
        ("timestamp,rate\n2024-01-01,nan\n", "row 2: rate 'nan' is not finite"),
        ("timestamp,rate\n2024-01-01,1.5\n", "row 2: rate 1.5 is no fraction between -1 and 1"),
        ("timestamp,rate\n2024-01-01,0.1\n2024-01-01,0.2\n", "row 3"),
        ("timestamp;rate\n2024-01-01;0.1\n", "semicolons"),
        ("timestamp,rate\n", "no rows"),
        ("", "the file is empty"),
    ],
)
def test_funding_files_are_refused_in_one_line(
    files: list[str],
    tmp_path: Path,
    text: str,
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rates = tmp_path / "rates.csv"
    rates.write_text(text)
    assert main([*files, "--funding-x-csv", str(rates)]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert err.startswith(f"backtest: {rates}: ")
    assert reason in err


def test_costs_refuse_what_is_no_rate() -> None:
    closes = leg(1)["close"]
    with pytest.raises(ValueError, match="funding_y is a list"):
        Costs(funding_y=[1.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="funding_x holds rates that are not finite"):
        Costs(funding_x=closes.where(closes < closes.max()))
