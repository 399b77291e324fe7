// What of a picture is shown: a stretch of time, and of every panel the values within it. A panel
// never keeps a range of values of its own, so that nothing can be cut off without a sign.

const HOLD = 8;  // rows at the end of a trace that Plotly is not given: they are painted over it

function isLive(state) { return Boolean(state.layout.meta && state.layout.meta.until); }
function isPanels(state) { return Boolean(state.layout.meta && state.layout.meta.panels); }
function length(trace) { return trace.x ? trace.x.length : 0; }
function yAxis(trace) { return 'yaxis' + (trace.yaxis || 'y').slice(1); }
function shownTrace(state, trace) {
  return trace.visible !== false && !state.hidden.has(trace.legendgroup || trace.name);
}

function wholeTime(state) {
  let first = Infinity, last = -Infinity;
  for (const trace of state.traces) {
    const count = length(trace);
    if (!count) continue;
    first = Math.min(first, time(trace.x[0]));
    last = Math.max(last, time(trace.x[count - 1]));
  }
  return [first, last];
}

function time(value) { return typeof value === 'number' ? value : Date.parse(value); }

// From the first row to where the newest will be when the picture is made anew.
function liveRange(state) {
  const [first, last] = wholeTime(state), end = Math.max(last, (state.layout.meta || {}).until || 0);
  const room = Math.max((end - first) * 0.012, 1);
  return [first - room / 3, end + room];
}

function rowAt(trace, when) {  // the row nearest to a time
  let low = 0, high = length(trace) - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (time(trace.x[middle]) < when) low = middle + 1; else high = middle;
  }
  if (low > 0 && when - time(trace.x[low - 1]) < time(trace.x[low]) - when) low -= 1;
  return low;
}

function extent(trace, [from, to]) {
  let low = Infinity, high = -Infinity;
  const [lows, highs] = trace.type === 'candlestick' ? [trace.low, trace.high] : [trace.y, trace.y];
  for (let k = 0; k < length(trace); k += 1) {
    const when = time(trace.x[k]);
    if (when < from || when > to) continue;
    if (lows[k] < low) low = lows[k];
    if (highs[k] > high) high = highs[k];
  }
  return trace.type === 'bar' ? [Math.min(0, low), high] : [low, high];
}

// Axis → the range that its values and its thresholds need in a stretch of time.
function ranges(state, stretch) {
  const found = {};
  const widen = (axis, low, high) => {
    if (!(low <= high)) return;
    const range = found[axis] || (found[axis] = [low, high]);
    range[0] = Math.min(range[0], low);
    range[1] = Math.max(range[1], high);
  };
  for (const trace of state.traces) {
    if (shownTrace(state, trace) && trace.meta !== 'level' && length(trace)) {
      widen(yAxis(trace), ...extent(trace, stretch));
    }
  }
  for (const shape of state.layout.shapes || []) {
    if (shape.type === 'line' && shape.yref && shape.yref !== 'paper') {
      widen('yaxis' + shape.yref.slice(1), shape.y0, shape.y1);
    }
  }
  for (const [axis, range] of Object.entries(found)) {
    const [low, high] = range;
    const room = low === high ? Math.abs(low) * 1e-3 || 1 : (high - low) * 0.07;
    const floor = (state.layout[axis] || {}).rangemode === 'tozero' && low >= 0 ? 0 : low - room;
    found[axis] = [floor, high + room];
  }
  return found;
}

// Whether a drawn range still does: all is within it, and it is not far too wide.
function fits(drawn, needed) {
  if (!drawn) return false;
  const room = (needed[1] - needed[0]) * 0.06;
  return drawn[0] <= needed[0] + room && drawn[1] >= needed[1] - room
    && drawn[1] - drawn[0] < 1.6 * (needed[1] - needed[0]);
}

// -- the stretch in the address: ?shown=2026-01-31T12:00:00~2026-01-31T12:30:00, in UTC. The page
// does not know of it, and drops it where it writes an address of its own: a tab keeps it.

function stretchInAddress() {
  if (window.pairsShown) return window.pairsShown;
  const text = new URL(window.location.href).searchParams.get('shown') || '';
  const ends = text.split('~').map((end) => Date.parse(end + 'Z'));
  return ends.length === 2 && ends[0] < ends[1] ? ends : null;
}

function tellAddress(stretch) {
  window.pairsShown = stretch;
  const address = new URL(window.location.href);
  const text = (ms) => new Date(ms).toISOString().slice(0, 19);
  if (stretch) address.searchParams.set('shown', stretch.map(text).join('~'));
  else address.searchParams.delete('shown');
  if (address.href !== window.location.href) {
    window.history.replaceState(window.history.state, '', address);
  }
}
