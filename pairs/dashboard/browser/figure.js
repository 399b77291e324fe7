// Plotly's script, and figures as they are sent: a body whose arrays are named by their number.

function load() {
  if (!window.pairsPlotly) {
    // Streamlit serves static scripts as text/plain, which browsers refuse to run: fetched once,
    // the text runs from a Blob.
    const address = new URL('app/static/plotly.min.js?v=VERSION', document.baseURI);
    window.pairsPlotly = fetch(address).then((answer) => {
      if (!answer.ok) throw new Error('plotly.min.js: HTTP ' + answer.status);
      return answer.text();
    }).then((text) => new Promise((done, failed) => {
      const script = document.createElement('script');
      script.src = URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));
      script.onload = () => done(window.Plotly);
      script.onerror = () => failed(new Error('plotly.min.js does not run'));
      document.head.append(script);
    }));
    window.pairsPlotly.catch(() => { window.pairsPlotly = null; });
  }
  return window.pairsPlotly;
}

const LIGHT = COLOURS;
const TYPES = { f8: Float64Array, f4: Float32Array, i4: Int32Array, u4: Uint32Array,
                i2: Int16Array, u2: Uint16Array, i1: Int8Array, u1: Uint8Array };

function decoded(packed) {
  const { dtype, bdata, shape } = packed;
  if (shape || !TYPES[dtype]) return shape ? packed : { dtype, bdata };  // Plotly reads it itself
  return new TYPES[dtype](Uint8Array.from(atob(bdata), (sign) => sign.charCodeAt(0)).buffer);
}

function resolved(part, arrays, light) {
  if (Array.isArray(part)) return part.map((value) => resolved(value, arrays, light));
  if (light && typeof part === 'string') return LIGHT[part] || part;
  if (part === null || typeof part !== 'object') return part;
  if (part.array !== undefined) return arrays[part.array];
  const copy = {};
  for (const [key, value] of Object.entries(part)) copy[key] = resolved(value, arrays, light);
  return copy;
}

function grown(array, [kept, tail]) {
  const made = new array.constructor(kept + tail.length);
  made.set(array.subarray(0, kept));
  made.set(tail.map((value) => (value === null ? NaN : value)), kept);
  return made;
}

// -- numbers as the page writes them

function number(value, decimals, sign) {
  if (!Number.isFinite(value)) return '–';
  const text = value.toLocaleString('en-US', {
    minimumFractionDigits: decimals, maximumFractionDigits: decimals,
    signDisplay: sign ? 'exceptZero' : 'negative',
  });
  return text.replace('-', '−');
}

function significant(value, digits) {
  if (!Number.isFinite(value)) return '–';
  if (value === 0) return '0';
  const places = digits - 1 - Math.floor(Math.log10(Math.abs(value)));
  return number(value, Math.max(0, Math.min(8, places)), false);
}

// `form` as in Plotly's templates: ",.2f", "+.3f", ".6~g".
function formatted(value, form) {
  const found = /^(\+?),?\.(\d+)~?([fg])$/.exec(form || '');
  if (!found) return significant(value, 6);
  return found[3] === 'f' ? number(value, Number(found[2]), found[1] === '+')
    : significant(value, Number(found[2]));
}

// What a trace says of its row `k`: its hover template, filled in.
function told(trace, k) {
  if (trace.type === 'candlestick') {
    const form = trace.form;
    return ['open', 'high', 'low', 'close'].map((name) =>
      name[0].toUpperCase() + ' ' + formatted(trace[name][k], form)).join('  ');
  }
  const template = trace.hovertemplate || '%{y}';
  return template.replace('<extra></extra>', '').replace(/%\{(y|customdata)(?::([^}]*))?\}/g,
    (_, name, form) => formatted(trace[name] ? trace[name][k] : NaN, form));
}

function edge(trace, value) {
  const form = trace.type === 'candlestick' ? trace.form
    : (/%\{y:([^}]*)\}/.exec(trace.hovertemplate || '') || [])[1];
  return formatted(value, form);
}
