"""Results that follow the controls and the bars by themselves: computed beside the page when a
view opens, anew at every change of a control and at every bar, as long as that is cheap.

What takes seconds is shown with its progress and a way to stop it, goes on showing what it had at
the last bar, and is done anew at later bars only where somebody asks for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st

from pairs.dashboard.context import follow, jobs
from pairs.figures.plain import plain
from pairs.live.jobs import Job, Jobs, Progress

PATIENCE_S = 0.3  # what a run of the page waits for a result before it shows how far it is
SLOW_S = 5.0  # what takes longer is not done anew at every bar
SHARE = 4  # of the time, at most one part in this and one is spent on doing it anew


@dataclass(frozen=True, slots=True)
class Wanted:
    """A result: `part` is the place it is shown at, `controls` all that was chosen for it, `bars`
    changes with the newest bar it is to be of; `work` makes it beside the page."""

    part: str
    title: str
    controls: tuple[Hashable, ...]
    bars: Hashable
    work: Callable[[Progress], Any]

    @property
    def lane(self) -> Jobs:
        """Where it is made: what is done for one part waits for none of another."""
        return jobs(self.part)

    @property
    def key(self) -> Hashable:
        return (self.part, self.controls, self.bars)


@dataclass(slots=True)
class _Shown:
    """What this session shows at a place, and what it waits for there."""

    controls: tuple[Hashable, ...]
    job: Job | None = None
    waiting: Job | None = None
    stopped: bool = False
    asked: bool = False
    awaited: bool = False  # its progress was shown


def current(wanted: Wanted) -> Job | None:
    """The newest finished job of what is wanted, of these controls and perhaps a bar ago. None
    while there is nothing to show; how far it is, and what goes wrong, is told here."""
    shown = _state(wanted)
    if shown.waiting is None and not shown.stopped and _due(shown, wanted):
        shown.waiting = wanted.lane.submit(wanted.key, wanted.title, wanted.work)
        shown.asked = False
    if shown.waiting is not None and shown.waiting.wait(PATIENCE_S if shown.job is None else 0.05):
        done, shown.waiting = shown.waiting, None
        if done.error == "cancelled":  # where nobody here has asked for that: begun again
            wanted.lane.forget(wanted.key)
        else:
            shown.job = done
            if shown.awaited:  # what stands elsewhere on the page may depend on it
                shown.awaited = False
                st.rerun()
    return _told(shown, wanted)


def shown_at(part: str) -> Callable[[], Job] | None:
    """Gives the job whose result this session shows at a place, also from outside a run of the
    page; None where nothing is shown there."""
    shown: _Shown | None = st.session_state.get(f"shown_{part}")
    if shown is None or shown.job is None or shown.job.error is not None:
        return None
    first = shown.job
    return lambda: shown.job if shown.job is not None and shown.job.error is None else first


def _state(wanted: Wanted) -> _Shown:
    """Of this place; where something else is chosen, what is still going on for it ends."""
    key = f"shown_{wanted.part}"
    shown: _Shown | None = st.session_state.get(key)
    if shown is None or shown.controls != wanted.controls:
        if shown is not None and shown.waiting is not None:
            shown.waiting.cancel()
        shown = st.session_state[key] = _Shown(wanted.controls)
    return shown


def _due(shown: _Shown, wanted: Wanted) -> bool:
    """Whether it is to be made anew: there is none yet, or a newer bar and time to spare."""
    last = shown.job
    if last is None or shown.asked:
        return True
    if wanted.lane.get(wanted.key) is last or last.took_s > SLOW_S:
        return False
    return time.monotonic() - last.ended >= SHARE * last.took_s


def _told(shown: _Shown, wanted: Wanted) -> Job | None:
    if shown.job is None and shown.waiting is not None:
        shown.awaited = True
        follow(shown.waiting, partial(setattr, shown, "stopped", True))
        return None
    if shown.job is None and shown.stopped:
        st.html('<p class="pw pw-note">Stopped: nothing is kept of it.</p>')
        _again(shown, f"Run {wanted.title.lower()}", wanted.part)
        return None
    job = shown.job
    if job is None:
        return None
    if job.error is not None:
        st.error(f"{plain(wanted.title)} did not run: {plain(job.error[:300])}")
        return None
    if job.took_s > SLOW_S and wanted.lane.get(wanted.key) is not job:
        if shown.waiting is not None:
            follow(shown.waiting, partial(setattr, shown, "stopped", True))
        else:
            _again(shown, "Take in the bars since then", wanted.part)
    return job


def _again(shown: _Shown, label: str, part: str) -> None:
    def start() -> None:
        shown.stopped, shown.asked = False, True

    st.button(plain(label), on_click=start, key=f"again_{part}", icon=":material/refresh:")
