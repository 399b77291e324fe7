"""A local exchange: speaks Binance's protocols on loopback, from a model or a recording.

It imports nothing of the rest of the project, so that it is an independent second reading of
the protocol: a mistake of the ingestion cannot hide behind the same mistake here.
"""

import signal
import sys

if sys.argv[:1] == [
    "-m"
]:  # `python -m exchange`, Ctrl-C while it loads: an end without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from exchange.faults import Faults
from exchange.limits import Limits
from exchange.replay import ReplaySource
from exchange.server import Exchange
from exchange.synthetic import SyntheticSource
from exchange.world import World, default_world, load_world

__all__ = [
    "Exchange",
    "Faults",
    "Limits",
    "ReplaySource",
    "SyntheticSource",
    "World",
    "default_world",
    "load_world",
]
