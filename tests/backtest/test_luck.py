"""The verdict "more than luck" errs no more often than it says, and every look is counted."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backtest import Costs, Rules, main, run
from pairs.backtest.grid import combinations, grid
from pairs.backtest.luck import LEVEL, Counted, Where, judge, luck_words, trials_words
from pairs.backtest.overfitting import DeflatedSharpe
from pairs.backtest.walk_forward import walk_forward
from pairs.dashboard.views import robustness
from pairs.dashboard.views.backtest import JudgedBacktest, verdict_text
from pairs.market import Instrument
from pairs.storage import trials
from pairs.storage.postgres import PostgresStore
from pairs.storage.trials import Sample, count_trials
from tests.support.legs import BASE, COSTS, leg, legs, printed

A, B, C = (Instrument("binance", name) for name in ("AAA", "BBB", "CCC"))
DAY = datetime(2024, 1, 1, tzinfo=UTC)


def random_walks(seed: int, rows: int = 1000) -> list[pd.DataFrame]:
    """Two legs that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    index = pd.date_range("2024-01-01", periods=rows, freq="1min", tz="UTC")
    closes = [100 * np.exp(rng.normal(0, 1e-3, rows).cumsum()) for _ in range(2)]
    return [pd.DataFrame({"open": np.r_[c[:1], c[:-1]], "close": c}, index=index) for c in closes]


def test_the_best_of_a_map_on_random_walks_is_rarely_more_than_luck() -> None:
    """60 worlds, 77 sets each; 3 are to be expected at 5 %, and more than 7 in 100 such tests."""
    sets = robustness.around(Rules(window=40))
    assert len(sets) == 77
    counted = alone = 0
    for seed in range(60):
        y, x = random_walks(seed)
        sharpes = grid(y, x, sets, Costs())["sharpe"].to_numpy()
        best = int(np.nanargmax(sharpes))
        equity = run(y, x, sets[best], Costs()).equity
        tried = list(zip(sets, sharpes.tolist(), strict=True))
        counted += judge(equity, tried, Costs(), None).deflated.probability >= LEVEL
        alone += judge(equity, tried[best : best + 1], Costs(), None).deflated.probability >= LEVEL
    assert counted <= 7
    assert alone > 30  # what not counting them would have called more than luck


def test_the_command_counts_its_grid(
    files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    search = [
        "--window",
        "20",
        "--entry-z",
        "1",
        "--grid",
        "entry_z=1,1.25,1.5,2",
        "--grid",
        "window=10,20,40",
    ]
    found = printed(capsys, [*files, *search])
    luck = found["deflated_sharpe"]
    assert (luck["trials"], luck["counted"]) == (12, "run")
    sharpes = [0.0 if row["sharpe"] is None else row["sharpe"] for row in found["grid"]]
    assert luck["benchmark"] > np.std(sharpes, ddof=1)
    assert main([*files, *search]) == 0
    told = capsys.readouterr().out
    assert "12 sets counted, of this run only" in told
    assert ("ore than luck" in told.replace("Not to be", "")) == (luck["probability"] >= LEVEL)
    assert main(files) == 0
    assert "1 set counted, of this run only" in capsys.readouterr().out


def sample(
    first: int = 0, last: int = 9, legs: tuple[Instrument, Instrument] = (A, B), bar_s: int = 60
) -> Sample:
    return Sample(legs, bar_s, DAY + timedelta(days=first), DAY + timedelta(days=last))


class TestRegister:
    def test_every_set_on_bars_that_overlap_is_counted_once(self, store: PostgresStore) -> None:
        assert count_trials(store, sample(), {"p": 0.1, "q": math.nan}) == pytest.approx(
            [0.1, math.nan], nan_ok=True
        )
        assert count_trials(store, sample(1, 10), {"p": 0.2})[0] == 0.2  # the window moved on
        assert len(count_trials(store, sample(1, 10), {"p": 0.2})) == 2
        assert len(count_trials(store, sample(5, 20), {"r": 0.3})) == 3
        assert len(count_trials(store, sample(5, 20, (B, A)), {"s": 0.3})) == 4  # seen from x
        for other in (sample(40, 50), sample(bar_s=300), sample(legs=(A, C))):
            assert len(count_trials(store, other, {"p": 0.1})) == 1

    def test_it_is_bounded(self, store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trials, "KEPT", 5)
        for k in range(9):
            count_trials(store, sample(), {f"{k}": 0.1})
        assert len(count_trials(store, sample(), {"last": 0.1})) <= 6

    def test_a_look_in_any_tab_counts(self, store: PostgresStore) -> None:
        """Map, walk-forward and a slider are three looks at one sample."""
        y, x = legs()
        where = Where(store, A, B)
        sets = combinations(Rules(window=20), entry_z=[1.0, 1.5, 2.0])
        first = run(y, x, sets[0], COSTS)
        only = judge(first.equity, [(sets[0], first.metrics["sharpe"])], COSTS, where)
        assert only.deflated.trials == 1
        assert "the only set ever tried" in trials_words(only)
        sharpes = grid(y, x, sets, COSTS)["sharpe"].tolist()
        judge(first.equity, list(zip(sets, sharpes, strict=True)), COSTS, where)
        walk = walk_forward(y, x, sets[1:], COSTS, train=300, test=150)
        walked = judge(walk.equity, list(zip(sets[1:], sharpes[1:], strict=True)), COSTS, where)
        again = judge(first.equity, [(sets[0], first.metrics["sharpe"])], COSTS, where)
        assert again.deflated.trials == walked.deflated.trials == 3
        assert again.deflated.benchmark > only.deflated.benchmark == 0.0
        assert "one of 3 sets tried on these bars" in trials_words(again)
        cheaper = judge(first.equity, [(sets[0], 1.0)], Costs(), where)
        assert cheaper.deflated.trials == 4  # at other costs it is another look

    def test_a_store_that_takes_nothing_is_told(self, store: PostgresStore) -> None:
        with store.transaction() as cursor:
            cursor.execute("DROP TABLE trial")
        result = run(*legs(), Rules(window=20, entry_z=1.0), COSTS)
        found = judge(result.equity, [(result.rules, 1.0)], COSTS, Where(store, A, B))
        assert found.scope == "away"
        assert "could not be counted" in trials_words(found)
        assert "only" in trials_words(found)

    def test_the_command_counts_in_the_store(
        self,
        store: PostgresStore,
        database_url: str,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", database_url)
        for symbol, seed in (("AAA", 1), ("BBB", 2)):
            store.write_upload(symbol, 60, leg(seed))
        source = ["--venue", "upload", "--y", "AAA", "--x", "BBB", "--window", "20"]
        found = printed(capsys, [*source, "--grid", "entry_z=1,1.5"])
        assert (found["deflated_sharpe"]["trials"], found["deflated_sharpe"]["counted"]) == (
            3,
            "store",
        )
        assert main([*source, "--entry-z", "1.75"]) == 0
        assert "one of 4 sets tried on these bars" in capsys.readouterr().out


def said_of_a_run(counted: Counted) -> str:
    """What the page says of a run that lost no account."""
    result = run(*legs(), BASE, COSTS)
    return verdict_text(JudgedBacktest(result, None, counted))  # type: ignore[arg-type]


@pytest.mark.parametrize("say", [luck_words, said_of_a_run])
def test_more_than_luck_is_said_from_the_level_on_only(say: Callable[[Counted], str]) -> None:
    for probability, sure in ((0.93, False), (0.9499, False), (0.95, True), (0.999, True)):
        told: Any = say(Counted(DeflatedSharpe(probability, 0.99, 0.0, 1.0, 1), "store"))
        assert ("more than luck" in told) == sure
        assert ("not to be told from luck" in told) != sure
    nothing = say(Counted(DeflatedSharpe(math.nan, math.nan, 0.0, math.nan, 1), "run"))
    assert "more than luck" not in nothing
