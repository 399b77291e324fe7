"""Two legs as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairs.bars.files import write_bars_csv
from tests.support.legs import leg


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name, seed in (("y", 1), ("x", 2)):
        (tmp_path / f"{name}.csv").write_text(write_bars_csv(leg(seed)))
    return ["--y-csv", str(tmp_path / "y.csv"), "--x-csv", str(tmp_path / "x.csv")]
