"""A large file is read in a process of its own."""

from __future__ import annotations

import pandas as pd
import pytest

from pairs.bars.csv_form import CsvError
from pairs.bars.files import read_bars_csv
from pairs.live import reading
from pairs.live.jobs import Cancelled

HEAD = "timestamp,open,high,low,close,volume\n"


def lines(count: int) -> str:
    index = pd.date_range("2024-01-01", periods=count, freq="1min", tz="UTC")
    return "".join(
        f"{ts:%Y-%m-%dT%H:%M:%S.%f}Z,1,3,0.5,{k % 3 + 0.6:g},{k}\n" for k, ts in enumerate(index)
    )


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BESIDE", 0)


@pytest.mark.processes
@pytest.mark.usefixtures("beside")
class TestBeside:
    def test_it_gives_what_reading_here_gives(self) -> None:
        content, steps = (HEAD + lines(45_000)).encode(), []
        made = reading.read_bars(content, lambda *step: steps.append(step))
        pd.testing.assert_frame_equal(made, read_bars_csv(content), check_freq=False)
        assert len(steps) >= 2
        assert steps[-1][1] == len(content)

    def test_a_refusal_is_the_same(self) -> None:
        with pytest.raises(CsvError, match=r"^row 2: high 2.0 is below low$"):
            reading.read_bars((HEAD + "2024-01-01,1,2,3,1,1\n").encode(), lambda *_: None)

    def test_it_ends_when_nobody_wants_it(self) -> None:
        def stop(*_: int) -> None:
            raise Cancelled

        with pytest.raises(Cancelled):
            reading.read_bars((HEAD + lines(45_000)).encode(), stop)
