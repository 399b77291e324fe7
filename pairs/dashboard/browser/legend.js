// One line of words per panel: what is drawn in it, with its value at the cursor or the newest. A
// click hides a line. And the same as a table, for those who do not see the picture.

function rowsOf(state) {
  const panels = {};
  for (const trace of state.traces) {
    const named = trace.name && trace.showlegend !== false;
    if (!named && !(trace.type === 'candlestick' && length(trace) > 1)) continue;
    const axis = trace.yaxis === 'y9' ? 'yaxis' : yAxis(trace);
    (panels[axis] = panels[axis] || []).push(trace);
  }
  return panels;
}

function drawLegend(node) {
  const state = node.pairs, panels = rowsOf(state), over = state.over;
  const names = JSON.stringify([Object.entries(panels).map(([axis, traces]) =>
    [axis, traces.map((t) => [t.name, colourOf(t)])]), [...state.hidden]]);
  if (state.legendOf !== names) {
    state.legendOf = names;
    over.querySelectorAll('.pairs-legend').forEach((line) => line.remove());
    for (const [axis, traces] of Object.entries(panels)) {
      const line = document.createElement('div');
      line.className = 'pairs-legend';
      line.dataset.axis = axis;
      for (const trace of traces) line.append(legendEntry(node, trace));
      over.append(line);
    }
  }
  for (const line of over.querySelectorAll('.pairs-legend')) {
    const axis = node._fullLayout[line.dataset.axis];
    line.style.top = axis._offset + 2 + 'px';
    line.style.left = node._fullLayout.xaxis._offset + 4 + 'px';
    line.style.maxWidth = node._fullLayout.xaxis._length - 8 + 'px';
  }
}

function colourOf(trace) {
  const mark = trace.mode === 'markers' || trace.type === 'bar';
  return (mark ? (trace.marker || {}).color : (trace.line || {}).color) || 'currentColor';
}

const SIGNS = { 'triangle-up': '▲', 'triangle-down': '▼', 'x-thin-open': '✕', 'diamond-open': '◇' };

function unescaped(name) {  // names are escaped for Plotly
  const plain = document.createElement('textarea');
  plain.innerHTML = name;
  return plain.value;
}

function legendEntry(node, trace) {
  const state = node.pairs, group = trace.legendgroup || trace.name;
  const entry = document.createElement('button');
  entry.type = 'button';
  entry.setAttribute('aria-pressed', String(!state.hidden.has(group)));
  entry.title = 'Show or hide';
  const sign = document.createElement('i');
  sign.style.color = colourOf(trace);
  const dotted = (trace.line || {}).dash === 'dot';
  sign.textContent = SIGNS[(trace.marker || {}).symbol] || (dotted ? '┄' : '━');
  if (trace.type === 'candlestick') sign.textContent = '';
  const name = document.createElement('span');
  const value = document.createElement('b');
  name.textContent = unescaped(trace.name);
  entry.append(sign, name, value);
  entry.dataset.name = trace.name;
  entry.addEventListener('click', () => {
    if (!state.hidden.delete(group)) state.hidden.add(group);
    draw(node);
  });
  return entry;
}

function tellValues(node) {
  const state = node.pairs, panels = rowsOf(state);
  for (const line of state.over.querySelectorAll('.pairs-legend')) {
    const traces = panels[line.dataset.axis] || [];
    traces.forEach((trace, number) => {
      const entry = line.children[number], count = length(trace);
      if (!entry || trace.mode === 'markers' || trace.meta === 'level') return;
      const row = state.cursor && state.cursorTime !== undefined ? rowAt(trace, state.cursorTime)
        : count - 1;
      const said = count ? told(trace, row) : '–';
      if (entry.lastChild.textContent !== said) entry.lastChild.textContent = said;
    });
  }
}

function drawTable(node) {
  const state = node.pairs, table = state.table;
  const stretch = isPanels(state) ? state.view || wholeTime(state) : [-Infinity, Infinity];
  const rows = [['line', 'newest', 'lowest shown', 'highest shown']];
  for (const trace of state.traces) {
    if (!trace.name || !length(trace) || trace.mode === 'markers' && isPanels(state)) continue;
    if (!trace.y || trace.y.length !== length(trace) || trace.type === 'heatmap') continue;
    if (trace.showlegend === false && isPanels(state)) continue;
    const [low, high] = extent(trace, isPanels(state) ? stretch : [-Infinity, Infinity]);
    rows.push([unescaped(trace.name), edge(trace, newest(trace)), edge(trace, low), edge(trace, high)]);
  }
  const heat = state.traces.find((trace) => trace.type === 'heatmap' && trace.text);
  if (heat) {
    rows.length = 0;
    rows.push(['', ...heat.x.map(unescaped)],
      ...heat.text.map((cells, k) => [unescaped(heat.y[k]), ...cells]));
  }
  const made = document.createElement('tbody');
  rows.forEach((cells, row) => {
    const line = document.createElement('tr');
    cells.forEach((text, column) => {
      const cell = document.createElement(row && column ? 'td' : 'th');
      if (!row || !column) cell.scope = row ? 'row' : 'col';
      cell.textContent = text === '' ? 'of' : text;
      line.append(cell);
    });
    made.append(line);
  });
  table.replaceChildren(table.caption, made);
}
