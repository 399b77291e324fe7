"""A large CSV is read in a process of its own: the page's other tabs go on, and its memory ends
with it. No Streamlit in it.

`python -m pairs.live.reading` reads a file of bars from its standard input and writes them, as
numpy does, to its standard output; how far it is goes to its standard error.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from typing import IO

import numpy as np
import pandas as pd

from pairs.bars.csv_form import CsvError
from pairs.bars.files import COLUMNS, read_bars_csv
from pairs.messages import one_line
from pairs.settings import ROOT

BESIDE = 2**21  # bytes from which on a file is worth a process
Progress = Callable[[int, int], None]


def read_bars(content: bytes, progress: Progress) -> pd.DataFrame:
    """See `files.read_bars_csv`, wherever that is done. `progress` may raise to end it."""
    if len(content) < BESIDE:
        return read_bars_csv(content, progress)
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as made:
        given.write(content)
        given.seek(0)
        with subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=given,
            stdout=made,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        ) as child:
            try:
                _follow(child, child.stderr or (), progress)
            except BaseException:
                child.kill()
                raise
        made.seek(0)
        return _bars(made)


def _follow(child: subprocess.Popen[str], told: Iterable[str], progress: Progress) -> None:
    """Hand on how far it is; raise what it was refused for."""
    last = ""
    for line in told:
        last = line.strip() or last
        step = _said(line)
        if isinstance(step, list):
            progress(*step)
    if child.wait() == 0:
        return
    refused = _said(last)
    if isinstance(refused, dict):
        raise CsvError(str(refused["refused"]))
    raise RuntimeError(f"the process that read the file ended with {child.returncode}: {last}")


def _said(line: str) -> object:
    """What the child says; None for words of others, such as a traceback."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _bars(made: IO[bytes]) -> pd.DataFrame:
    stamps, values = np.load(made), np.load(made)
    index = pd.DatetimeIndex(stamps.astype("datetime64[us]"), tz="UTC", name="ts")
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)), index=index)


def _tell(what: object) -> None:
    print(json.dumps(what), file=sys.stderr, flush=True)


def main() -> int:
    """The child."""
    try:
        bars = read_bars_csv(sys.stdin.buffer.read(), lambda *step: _tell(step))
    except CsvError as error:
        _tell({"refused": one_line(error)})
        return 3
    np.save(sys.stdout.buffer, pd.DatetimeIndex(bars.index).as_unit("us").asi8)
    np.save(sys.stdout.buffer, bars[list(COLUMNS)].to_numpy().T)
    return 0


if __name__ == "__main__":
    sys.exit(main())
