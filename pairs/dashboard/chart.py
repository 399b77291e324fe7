"""The chart: a component that keeps one Plotly node and paints what is new over it.

`st.plotly_chart` in a fragment replaces the chart's node at every refresh, so that zoom, hover
and drag are lost. Plotly's script comes from the installed plotly package through Streamlit's
static files, never from another host. What runs in the browser stands in browser/.
"""

from __future__ import annotations

import json
import os
import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import streamlit as st

from pairs.figures.theme import TURNED_LIGHT
from pairs.settings import ROOT

SCRIPT = "plotly.min.js"
PARTS = ("figure", "scale", "paint", "legend", "component")
JS = (
    "\n".join((Path(__file__).parent / "browser" / f"{name}.js").read_text() for name in PARTS)
    .replace("VERSION", version("plotly"))
    .replace("COLOURS", json.dumps(TURNED_LIGHT))
)
HTML = """
<div class="pairs-frame">
  <div class="pairs-chart" role="img"></div>
  <canvas class="pairs-canvas" aria-hidden="true"></canvas>
  <div class="pairs-over"><button type="button" class="pairs-reset" hidden>↺ live</button></div>
  <table class="pairs-table"><caption></caption></table>
</div>
"""
CSS = """
.pairs-frame { position: relative; width: 100%; }
.pairs-chart { width: 100%; min-height: 200px; }
.pairs-canvas { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.pairs-over { position: absolute; inset: 0; pointer-events: none; overflow: hidden; }
.pairs-over button { pointer-events: auto; font: inherit; color: inherit; cursor: pointer;
  border: 0; background: none; padding: 0 .35rem; white-space: nowrap; }
.pairs-over button:focus-visible { outline: 2px solid var(--pw-y); outline-offset: 1px; }
.pairs-legend { position: absolute; display: flex; flex-wrap: wrap; font-size: 12px;
  line-height: 16px; font-variant-numeric: tabular-nums; pointer-events: none; }
.pairs-legend button {
  background: color-mix(in srgb, light-dark(#FFFFFF, #0E1117) 72%, transparent); }
.pairs-legend i { font-style: normal; margin-right: .3rem; }
.pairs-legend b { font-weight: 600; margin-left: .4rem; }
.pairs-legend b:empty, .pairs-legend i:empty { display: none; }
.pairs-legend button[aria-pressed=false] { opacity: .5; text-decoration: line-through; }
.pairs-over .pairs-reset { position: absolute; right: 78px; top: 2px; padding: .1rem .6rem;
  border-radius: 999px; background: var(--pw-y); color: light-dark(#FFFFFF, #0E1117);
  font-weight: 600; font-size: 12px; z-index: 2; }
.pairs-reset[hidden] { display: none; }
.pairs-table { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }
"""

_component = st.components.v2.component(
    "pairs_chart", html=HTML, css=CSS, js=JS, isolate_styles=False
)
_bare = st.components.v2.component("pairs_patch", js=JS, isolate_styles=False)


def fetch_early() -> None:
    """Let the browser fetch Plotly's script while the first picture is still being made."""
    _bare(key="fetch-early", data={"early": True})


def provide_script() -> None:
    """Put Plotly's script where Streamlit serves static files: done at install, so that a folder
    that nobody may write serves as well; at a start only where it is missing or another version's.
    """
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise OSError("the package plotly is not installed: run `make install`")
    source = Path(spec.origin).parent / "package_data" / SCRIPT
    target = ROOT / "static" / SCRIPT
    if target.exists() and target.stat().st_size == source.stat().st_size:
        return
    try:
        target.parent.mkdir(exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}.partial")
        shutil.copyfile(source, partial)
        partial.rename(target)  # in one step: two starts at once cannot serve half a file
    except OSError as error:
        raise OSError(
            f"{target} is not that of the installed plotly and cannot be written "
            f"({error.strerror}): run `make install` as the owner of the folder"
        ) from error


def draw_chart(
    payload: dict[str, Any], patch: dict[str, Any] | None, *, name: str, label: str, height: str
) -> None:
    """Show a figure; the node of `name` is kept.

    `payload`: the packed figure as JSON, and its `version`. `patch`: what makes the newest figure
    of that one, see `figures.growing`.
    """
    sent = {"payload": payload, "name": name, "label": label, "height": height}
    _component(key=f"chart-{name}", data=sent)
    if patch is not None:
        _bare(key=f"patch-{name}", data={"name": name, "patch": patch})
