"""The live chart: a component that keeps one Plotly node and only changes its data.

`st.plotly_chart` in a fragment replaces the chart's node at every refresh, so that zoom, hover
and drag are lost. Here `Plotly.react` with `uirevision` keeps them. Plotly's script comes from
the installed plotly package through Streamlit's static files, never from another host.
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

from pairs.figures.theme import LIGHT
from pairs.settings import ROOT

SCRIPT = "plotly.min.js"
# Streamlit serves static scripts as text/plain, which browsers refuse to run: fetched once, the
# text runs from a Blob.
JS = """
function load() {
  if (!window.pairsPlotly) {
    const address = new URL('app/static/plotly.min.js?v=VERSION', document.baseURI);
    window.pairsPlotly = fetch(address).then((answer) => {
      if (!answer.ok) throw new Error('plotly.min.js: HTTP ' + answer.status);
      return answer.text();
    }).then((text) => new Promise((done, failed) => {
      const script = document.createElement('script');
      script.src = URL.createObjectURL(new Blob([text], {type: 'text/javascript'}));
      script.onload = () => done(window.Plotly);
      script.onerror = () => failed(new Error('plotly.min.js does not run'));
      document.head.append(script);
    }));
    window.pairsPlotly.catch(() => { window.pairsPlotly = null; });
  }
  return window.pairsPlotly;
}

const LIGHT = COLOURS;

const CONFIG = { responsive: true, displaylogo: false, scrollZoom: false, displayModeBar: false,
                 doubleClick: 'reset' };

// What changes between two closed bars is a few numbers: they are laid over the drawn figure. Never
// with Plotly.update: it forgets the zoom where x changes, react with a uirevision does not.
window.pairsPatches = window.pairsPatches || {};
window.pairsShow = (node) => {
  const { data, layout } = node.pairsFigure;
  const patch = window.pairsPatches[node.dataset.name];
  const traces = data.map((trace) => ({ ...trace }));  // Plotly writes into what it is given
  if (patch && patch.version === node.pairsDrawn) {
    node.pairsPatched = patch.said;
    patch.traces.forEach((number, k) => {
      for (const [name, values] of Object.entries(patch.values)) traces[number][name] = values[k];
    });
  }
  window.Plotly.react(node, traces, structuredClone(layout), CONFIG);
};

function unpack(part, arrays, light) {
  if (Array.isArray(part)) return part.map((value) => unpack(value, arrays, light));
  if (light && typeof part === 'string') return LIGHT[part] || part;
  if (part === null || typeof part !== 'object') return part;
  const copy = {};
  for (const [key, value] of Object.entries(part)) {
    copy[key] = key === 'bdata' ? arrays[value] : unpack(value, arrays, light);
  }
  return copy;
}

function draw(node) {
  const data = node.pairsData;
  const light = getComputedStyle(node).colorScheme === 'light';
  const version = data.version + (light ? ' light' : '');
  if (node.dataset.version === version) return;
  node.dataset.version = version;
  node.style.height = data.height;
  node.setAttribute('aria-label', data.label);
  load().then((Plotly) => {
    if (node.dataset.version !== version) return;
    node.pairsFigure = unpack(data.figure, data.arrays, light);
    node.pairsDrawn = data.version;
    window.pairsShow(node);
    if (!node.pairsObserver) {
      node.pairsObserver = new ResizeObserver(() => {
        if (node.isConnected && node.offsetWidth) Plotly.Plots.resize(node);
      });
      node.pairsObserver.observe(node);
    }
  }).catch((error) => {
    node.dataset.version = '';
    node.textContent = 'The chart cannot be drawn: ' + error.message;
  });
}

export default function (component) {
  const { data, parentElement } = component;
  const node = parentElement.querySelector('.pairs-chart');
  if (!node) return;
  node.pairsData = data;
  node.dataset.name = data.name;
  draw(node);
  if (!node.pairsTheme) {  // the theme may change while the figure does not
    node.pairsTheme = setInterval(() => {
      if (node.isConnected) draw(node); else clearInterval(node.pairsTheme);
    }, 500);
  }
}
""".replace("VERSION", version("plotly")).replace("COLOURS", json.dumps(LIGHT))

PATCH_JS = """
export default function (component) {
  const { data } = component;
  const patch = { ...data, said: JSON.stringify(data) };
  window.pairsPatches = window.pairsPatches || {};
  window.pairsPatches[data.name] = patch;
  const node = document.querySelector(`.pairs-chart[data-name="${data.name}"]`);
  if (node && node.pairsDrawn === data.version && node.pairsPatched !== patch.said) {
    window.pairsShow(node);
  }
}
"""

_component = st.components.v2.component(
    "pairs_chart",
    html='<div class="pairs-chart" role="img"></div>',
    css=".pairs-chart { width: 100%; min-height: 200px; }",
    js=JS,
    isolate_styles=False,
)


_patch = st.components.v2.component("pairs_patch", js=PATCH_JS, isolate_styles=False)


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
    """Show a packed figure (`figures.pack`) with its `version`; the node of `name` is kept.

    `patch`: `traces` (their numbers) and `values` (as Plotly's restyle takes them) to be laid
    over the figure, so that the figure itself need not be sent again for them.
    """
    _component(
        key=f"chart-{name}", data={**payload, "name": name, "label": label, "height": height}
    )
    if patch is not None:
        _patch(key=f"patch-{name}", data={**patch, "name": name, "version": payload["version"]})
