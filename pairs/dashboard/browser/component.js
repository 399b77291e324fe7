// A chart: one Plotly node that is kept. A figure is drawn when it is another one; what a closed
// bar adds to it is painted over it.

const CONFIG = { responsive: true, displaylogo: false, scrollZoom: true, displayModeBar: false,
                 doubleClick: false };
window.pairsPatches = window.pairsPatches || {};

function started(node) {
  if (node.pairs) return node.pairs;
  const frame = node.parentElement;
  const state = node.pairs = {
    hidden: new Set(), view: null, cursor: null, version: '', revision: null,
    over: frame.querySelector('.pairs-over'), table: frame.querySelector('table'),
    canvas: frame.querySelector('canvas'), reset: frame.querySelector('.pairs-reset'),
  };
  state.repaint = () => paint(node);
  state.reset.addEventListener('click', () => showAll(node));
  return state;
}

// -- data: the figure that was sent, and the patch that makes the newest of it

function read(node, payload, light) {
  const state = node.pairs, sent = JSON.parse(payload.packed);
  Object.assign(state, { body: sent.figure, base: sent.arrays.map(decoded), light,
                         version: payload.version, patched: '', given: null });
  state.layout = resolved(state.body.layout, state.base, light);
  const font = state.layout.font || {}, hover = state.layout.hoverlabel || {};
  Object.assign(state, { ink: font.color, background: hover.bgcolor, muted: hover.bordercolor,
                         grid: (state.layout.xaxis || {}).gridcolor });
  assemble(node);
}

function assemble(node) {
  const state = node.pairs, patch = window.pairsPatches[node.dataset.name];
  const arrays = [...state.base];
  const fresh = patch && patch.version === state.version ? patch : null;
  if (fresh) {
    for (const [k, tail] of Object.entries(fresh.tails)) arrays[k] = grown(state.base[k], tail);
  }
  state.patched = fresh ? fresh.said : '';
  state.traces = state.body.data.map((trace) => resolved(trace, arrays, state.light));
  if (fresh) {
    for (const [k, values] of Object.entries(fresh.forming)) Object.assign(state.traces[k], values);
  }
  for (const trace of state.traces) {
    if (trace.type === 'candlestick') trace.form = (state.layout[yAxis(trace)] || {}).tickformat;
  }
}

// Whether what Plotly was given of every trace is still so.
function stillGiven(node) {
  const state = node.pairs, patch = window.pairsPatches[node.dataset.name];
  if (!state.given) return false;
  return state.body.data.every((trace, number) => Object.values(trace).every((part) => {
    const tail = part && part.array !== undefined && patch.tails[part.array];
    return !tail || tail[0] >= state.given[number];
  }));
}

// -- drawing

function draw(node) {
  const state = node.pairs;
  if (!window.Plotly || !state.body) return;
  const layout = structuredClone(state.layout), panels = isPanels(state);
  const hold = isLive(state) ? HOLD : 0;
  state.given = state.traces.map((trace) => Math.max(0, length(trace) - hold));
  const traces = state.traces.map((trace, number) => {
    const copy = { ...trace };
    delete copy.form;
    if (state.hidden.has(trace.legendgroup || trace.name)) copy.visible = 'legendonly';
    if (hold) {
      for (const [name, values] of Object.entries(copy)) {
        if (ArrayBuffer.isView(values) || name === 'x' || Array.isArray(values)) {
          copy[name] = values.slice(0, state.given[number]);
        }
      }
    }
    return copy;
  });
  if (panels) {
    const stretch = state.view || liveRange(state), needed = ranges(state, stretch);
    Object.assign(layout, { hovermode: false, showlegend: false, dragmode: 'pan' });
    Object.assign(layout.xaxis, { range: stretch, autorange: false, showspikes: false });
    for (const name of Object.keys(layout).filter((key) => /^yaxis/.test(key))) {
      Object.assign(layout[name], { fixedrange: true, autorange: false });
      if (needed[name]) layout[name].range = needed[name];
      layout[name].title = { text: '' };  // the legend says it, and the newest values need the room
    }
    layout.margin = { ...layout.margin, t: 8 };
  }
  window.Plotly.react(node, traces, layout, CONFIG);
  if (!state.listening) listen(node);
  afterwards(node);
  drawTable(node);
}

function afterwards(node) {
  const state = node.pairs;
  state.reset.hidden = !state.view && !state.moved;
  state.reset.textContent = isLive(state) ? '↺ live' : '↺ all';
  if (!isPanels(state)) return;
  drawLegend(node);
  paint(node);
}

// Give the panels the ranges that they need where theirs do not do; true where that was drawn.
function refit(node, always) {
  const state = node.pairs, stretch = state.view || liveRange(state);
  const needed = ranges(state, stretch), changes = {};
  for (const [name, range] of Object.entries(needed)) {
    const drawn = (node._fullLayout[name] || {}).range;
    if (always || !fits(drawn, range)) changes[name + '.range'] = range;
  }
  if (always) changes['xaxis.range'] = stretch;
  if (Object.keys(changes).length) window.Plotly.relayout(node, changes);
  afterwards(node);
}

function showAll(node) {
  const state = node.pairs;
  state.view = null;
  state.moved = false;
  if (isPanels(state)) {
    if (isLive(state)) tellAddress(null);
    refit(node, true);
    drawTable(node);
  } else {
    const changes = {};
    for (const name of Object.keys(node._fullLayout).filter((key) => /^[xy]axis\d*$/.test(key))) {
      const asked = state.layout[name] || {};
      changes[name + '.autorange'] = asked.autorange || true;
    }
    window.Plotly.relayout(node, changes).then(() => afterwards(node));
  }
}

function look(node, from, to) {  // at a stretch of time, by hand
  const state = node.pairs;
  state.view = [from, to];
  if (isLive(state)) tellAddress(state.view);
  refit(node, true);
  drawTable(node);
}

function listen(node) {
  const state = node.pairs;
  state.listening = true;
  node.on('plotly_relayout', (change) => {
    const byHand = 'xaxis.range[0]' in change || 'yaxis.range[0]' in change;
    if (!byHand) return;
    if (!isPanels(state)) { state.moved = true; afterwards(node); return; }
    const x = node._fullLayout.xaxis;
    const ends = x.range.map((end) => x.r2l(end));
    window.setTimeout(() => look(node, ...ends), 0);  // Plotly is still within its own drawing
  });
  node.on('plotly_relayouting', () => { if (isPanels(state)) paint(node); });
  node.on('plotly_doubleclick', () => showAll(node));
  node.on('plotly_afterplot', () => afterwards(node));
  const frame = node.parentElement;
  let asked = false;
  const soon = () => {
    if (asked) return;
    asked = true;
    window.requestAnimationFrame(() => { asked = false; paint(node); });
  };
  frame.addEventListener('pointermove', (event) => {
    const box = node.getBoundingClientRect();
    state.cursor = { x: event.clientX - box.left, y: event.clientY - box.top };
    soon();
  });
  frame.addEventListener('pointerleave', () => { state.cursor = null; soon(); });
  pinch(node);
  new ResizeObserver(() => {
    if (node.isConnected && node.offsetWidth) window.Plotly.Plots.resize(node);
  }).observe(node);
}

function pinch(node) {
  const state = node.pairs;
  let began = null;
  const middle = (touches) => (touches[0].clientX + touches[1].clientX) / 2;
  const apart = (touches) => Math.max(20, Math.abs(touches[0].clientX - touches[1].clientX));
  const stop = (event) => { event.preventDefault(); event.stopPropagation(); };
  node.addEventListener('touchstart', (event) => {
    if (event.touches.length !== 2 || !isPanels(state)) return;
    stop(event);
    const place = geometry(node), box = node.getBoundingClientRect();
    began = { span: place.to - place.from, apart: apart(event.touches),
              when: place.when(middle(event.touches) - box.left), frame: 0 };
  }, { capture: true, passive: false });
  node.addEventListener('touchmove', (event) => {
    if (!began || event.touches.length !== 2) return;
    stop(event);
    const place = geometry(node), box = node.getBoundingClientRect();
    const span = began.span * began.apart / apart(event.touches);
    const share = (middle(event.touches) - box.left - place.left) / (place.right - place.left);
    const from = began.when - share * span;
    window.cancelAnimationFrame(began.frame);
    began.frame = window.requestAnimationFrame(() => look(node, from, from + span));
  }, { capture: true, passive: false });
  node.addEventListener('touchend', (event) => {
    if (began) { event.stopPropagation(); began = null; }
  }, { capture: true });
}

// -- what comes from the server

function show(node) {
  const { payload, label, height, name } = node.pairsSent;
  const state = started(node);
  const light = getComputedStyle(node).colorScheme === 'light';
  const version = payload.version + (light ? ' light' : '');
  if (node.dataset.version === version) return;
  node.dataset.version = version;
  node.dataset.name = name;
  node.style.height = height;
  node.setAttribute('aria-label', label);
  state.table.caption.textContent = label;
  load().then(() => {
    if (node.dataset.version !== version) return;
    read(node, payload, light);
    if (state.revision !== state.layout.uirevision) begin(state);
    draw(node);
  }).catch((error) => {
    node.dataset.version = '';
    node.textContent = 'The chart cannot be drawn: ' + error.message;
  });
}

// A picture of something else: what was looked at is no longer it, but a link may name a stretch.
function begin(state) {
  const first = state.revision === null;
  state.revision = state.layout.uirevision;
  state.view = null;
  if (!isPanels(state)) return;
  const own = state.layout.xaxis.range;  // a figure of a stretch
  if (own) { state.view = Array.from(own, time); return; }
  if (!isLive(state)) return;
  const asked = stretchInAddress(), [from, to] = wholeTime(state);
  if (first && asked && asked[0] < to && asked[1] > from) state.view = asked;
  else if (asked) tellAddress(null);
}

function patch(node) {
  const state = node.pairs, sent = window.pairsPatches[node.dataset.name];
  if (!state || !state.body || !window.Plotly || sent.version !== state.version) return;
  if (sent.said === state.patched) return;
  const kept = stillGiven(node);
  assemble(node);
  if (!kept) { draw(node); return; }
  if (document.querySelector('.dragcover')) paint(node);  // a hand is at it
  else refit(node, false);
}

export default function (component) {
  const { data, parentElement } = component;
  if (data.patch) {
    window.pairsPatches[data.name] = { ...data.patch, said: JSON.stringify(data.patch) };
    const node = document.querySelector(`.pairs-chart[data-name="${data.name}"]`);
    if (node) patch(node);
    return;
  }
  if (data.early) { load(); return; }
  const node = parentElement.querySelector('.pairs-chart');
  if (!node) return;
  node.pairsSent = data;
  node.dataset.name = data.name;
  show(node);
  if (!node.pairsTimer) {  // the theme may change while the figure does not; the countdown runs
    node.pairsTimer = setInterval(() => {
      if (!node.isConnected) { clearInterval(node.pairsTimer); return; }
      show(node);
      const state = node.pairs;
      if (state && state.view && isPanels(state) && isLive(state)) tellAddress(state.view);
      if (state && state.given && isPanels(state) && countdown(state) !== state.clock) paint(node);
    }, 500);
  }
}
