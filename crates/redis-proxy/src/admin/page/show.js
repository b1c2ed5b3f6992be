// What is shown of an event. All that strangers have written, as names of keys, is put on the page as text and never as anything else.

const POINTS = 180;
// Longer names are cut; so many characters tell them apart.
const MOST_SHOWN = 300;
const NONE = "–";

const REASONS = {
  "first": "nobody has asked for it lately, or it has left so long ago that nothing is known of it any more",
  "expired": "it was held, and grew too old: GLOBAL_EXPIRY, or its own time in Redis",
  "evicted": "it was held, and left for room: a larger CAPACITY would have kept it",
  "invalidated": "it was held, and somebody has written it in Redis",
  "no-such-key": "Redis has no such key",
  "too-large": "its value is above MAX_VALUE_BYTES",
  "other-type": "it is no string, or was asked for by a command that another type answers",
  "behind-a-write": "it is held, but its client has seen, or may have made, a later state of Redis",
  "unproven": "it is held, and was not proven as late as was asked for",
  "not-kept": "no answer to this command is kept",
  "beyond-partitions": "its client's user and database have no part of the cache",
};

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const small = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });

function number(value) {
  if (value == null) return NONE;
  if (value >= 100000) return short.format(value);
  return value >= 10 || value === 0 ? whole.format(value) : small.format(value);
}
function percent(value) {
  return value == null ? NONE : `${(100 * value).toFixed(value > 0.999 && value < 1 ? 2 : 1)} %`;
}
function bytes(value) {
  if (value == null) return NONE;
  for (const [unit, size] of [["GiB", 1 << 30], ["MiB", 1 << 20], ["KiB", 1 << 10]]) {
    if (value >= size) return `${(value / size).toPrecision(3)} ${unit}`;
  }
  return `${value} B`;
}
function micros(value) {
  if (value == null) return NONE;
  if (value >= 1e6) return `${(value / 1e6).toPrecision(3)} s`;
  return value >= 1000 ? `${(value / 1000).toPrecision(3)} ms` : `${value} µs`;
}
function span(seconds) {
  if (seconds == null) return NONE;
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= 2 * size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.floor(seconds)} s`;
}
function withError(rate, error) {
  return error == null ? number(rate) : `${number(rate)} ± ${number(error)}`;
}

// Longer ones than are kept are told apart by what is kept.
const cutKey = row => row.cut ? `${row.key}…` : row.key;

// A tile: its name, what is charted (null where it is not known), how that is written, and a line beside it.
const rate = name => moment => moment.rates?.[name] ?? null;
const TILES = [
  ["Hit ratio", m => m.ratio, percent, m => `of ${number(m.reads)} reads a second`, 1],
  ["Requests a second", m => m.requests, number, m => `${number(rate("http_requests")(m))} HTTP, ${number(rate("resp_commands")(m))} RESP`],
  ["Hit, slowest hundredth", m => m.now.latency_us.hit.p99, micros, m => `half within ${micros(m.now.latency_us.hit.p50)}, over HTTP`],
  ["Miss, slowest hundredth", m => m.now.latency_us.miss.p99, micros, m => `half within ${micros(m.now.latency_us.miss.p50)}, over HTTP`],
  ["Misses a second", rate("misses"), number, m => `and ${number(rate("coalesced")(m))} that joined another's fetch`],
  ["Keys held", m => m.now.cache.entries, number, m => `of ${number(m.now.cache.capacity)}; ${number(m.now.cache.negative_entries)} known to be missing`],
  ["Bytes of entries", m => m.now.cache.bytes, bytes, m => `of ${m.now.cache.capacity_bytes == null ? "no budget" : bytes(m.now.cache.capacity_bytes)}; process ${bytes(m.now.program.resident_bytes)}`],
  ["Evictions a second", rate("evictions"), number, () => "left for room"],
  ["Expirations a second", rate("expirations"), number, () => "left for age"],
  ["Invalidations a second", rate("invalidations"), number, () => "left because Redis said so"],
  ["Errors a second", rate("errors"), number, m => `fetches that failed; ${number(m.now.totals.errors)} since the start`],
  ["Clients", m => m.now.clients.http + m.now.clients.resp, number, m => `${number(m.now.clients.http)} HTTP, ${number(m.now.clients.resp)} RESP, ${number(m.now.clients.waiting)} waiting; at most ${number(m.now.clients.max)}`],
];

const TABLES = {
  hot_keys: [["Key", r => named(cutKey(r), r.partition)], ["Reads a second", r => withError(r.reads_per_s, r.error_per_s)], ["Of all", r => percent(r.share)],
    ["Hits", r => percent(r.hit_ratio)], ["Size", r => bytes(r.bytes)], ["Leaves in", r => r.left_ms == null ? NONE : span(r.left_ms / 1000)]],
  hot_misses: [["Key", r => named(cutKey(r), r.partition)], ["Why", r => r.reason], ["Misses a second", r => withError(r.misses_per_s, r.error_per_s)]],
  prefixes: [["Prefix", r => named(r.prefix === "" ? "(without a colon)" : r.prefix)], ["Reads a second", r => withError(r.reads_per_s, r.error_per_s)], ["Hits", r => percent(r.hit_ratio)],
    ["Held", r => bytes(r.bytes)], ["Invalidations a second", r => number(r.invalidations_per_s)]],
  slow_log: [["Command", r => withNote(named(r.arguments.join(" ")), `${new Date(r.at_ms).toLocaleTimeString()}, ${r.client}`)], ["All", r => micros(r.total_us)],
    ["In line", r => micros(r.queued_us)], ["In Redis", r => micros(r.redis_us)], ["Delivered", r => micros(r.delivered_us)]],
};

let before = null;
let past = TILES.map(() => []);
let drawn = null;

function forgetAll() {
  before = null;
  past = TILES.map(() => []);
  for (const name of Object.keys(TABLES)) $(name).replaceChildren();
  $("health").replaceChildren();
  $("program").textContent = "";
  drawn?.forEach(tile => tile.forget());
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A name as text: an element whose text cannot leave it.
function named(text, partition = 0) {
  const cut = text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}… (${whole.format(text.length)} characters)` : text;
  const shown = element("span", { class: "key" }, cut === "" ? "(empty)" : cut);
  return partition > 0 ? withNote(shown, `partition ${partition}`) : shown;
}
function withNote(shown, note) {
  return element("div", {}, shown, element("small", {}, note));
}

// What changed since the event before; nothing after a restart, when counters begin anew.
function momentOf(now) {
  const moment = { now, rates: null, ratio: null, reads: null, requests: null };
  const seconds = before ? (now.at_ms - before.at_ms) / 1000 : 0;
  const isSame = before && now.program.uptime_s >= before.program.uptime_s && now.totals.hits >= before.totals.hits;
  if (isSame && seconds > 0.1 && seconds < 30) {
    const rates = {};
    for (const name of Object.keys(now.totals)) {
      rates[name] = Math.max(0, now.totals[name] - before.totals[name]) / seconds;
    }
    moment.rates = rates;
    moment.requests = rates.http_requests + rates.resp_commands;
    moment.reads = rates.hits + rates.misses + rates.coalesced;
    moment.ratio = moment.reads > 0 ? rates.hits / moment.reads : null;
  }
  before = now;
  return moment;
}

function makeTile([name]) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${POINTS - 1} 40`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const [area, line] = ["area", "line"].map(kind => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", kind);
    svg.append(path);
    return path;
  });
  const [value, more, low, high] = [element("p", { class: "value" }), element("p", { class: "more" }), element("span"), element("span")];
  const box = element("div", { class: "tile" }, element("h3", {}, name), value, more, svg, element("p", { class: "range" }, low, high));
  $("tiles").append(box);
  return {
    draw(shown, beside, points, text, top) {
      value.textContent = shown;
      more.textContent = beside;
      const known = points.filter(point => point != null);
      const most = top ?? Math.max(...known, 0);
      low.textContent = known.length ? `lowest ${text(Math.min(...known))}` : "";
      high.textContent = known.length ? `highest ${text(Math.max(...known))}` : "";
      const [outline, filled] = paths(points, most || 1);
      line.setAttribute("d", outline);
      area.setAttribute("d", filled);
    },
    forget() {
      [value, more, low, high].forEach(part => { part.textContent = ""; });
      [line, area].forEach(path => path.setAttribute("d", ""));
    },
  };
}

// The outline of a chart and the area below it; a moment of which nothing is known is a gap.
function paths(points, most) {
  let outline = "", filled = "", open = null;
  points.forEach((point, at) => {
    const x = POINTS - points.length + at;
    if (point == null) {
      if (open != null) filled += `V40H${open}Z`;
      open = null;
      return;
    }
    const place = `${x} ${(38 - 36 * Math.min(point / most, 1)).toFixed(1)}`;
    outline += `${open == null ? "M" : "L"}${place}`;
    filled += open == null ? `M${x} 40L${place}` : `L${place}`;
    open ??= x;
  });
  return [outline, open == null ? filled : `${filled}V40H${open}Z`];
}

function showTable(name, rows) {
  const table = $(name), columns = TABLES[name];
  if (rows.length === 0) {
    table.replaceChildren(element("tbody", {}, element("tr", {}, element("td", { class: "text wide", colspan: columns.length }, "none"))));
    return;
  }
  const head = element("tr", {}, ...columns.map(([title], at) => element("th", { scope: "col", class: at ? "" : "text" }, title)));
  const body = rows.map(row => element("tr", {}, ...columns.map(([title, of], at) =>
    element("td", { class: at ? "" : "text wide", "data-name": title }, of(row)))));
  table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
}

function showHealth(now) {
  const line = (isWell, text) => element("li", isWell ? {} : { class: "bad" }, element("b", {}, isWell ? "✓ " : "✗ "), text);
  const { mode, in_force, why_not, since_s } = now.coherence;
  const promise = in_force ? `${mode}: in force for ${span(since_s)}` : `${mode}: not in force for ${span(since_s)}: ${why_not}`;
  const lines = [line(in_force, promise)];
  for (const one of now.upstreams) {
    lines.push(line(one.connected, one.connected ? `Redis at ${one.address}: connected` : `Redis at ${one.address}: ${one.why_not}`));
  }
  const table = now.tracking_table;
  if (table) {
    const isWell = !table.limit || table.keys < 0.9 * table.limit;
    const most = table.limit == null ? "limit not known" : table.limit ? `of at most ${number(table.limit)}` : "without a limit";
    lines.push(line(isWell, `Redis tracks ${number(table.keys)} keys, ${most}`));
  }
  if (now.clients.waiting > 0) lines.push(line(false, `${number(now.clients.waiting)} clients wait for a place`));
  $("health").replaceChildren(...lines);
}

function show(now) {
  const moment = momentOf(now);
  TILES.forEach(([, of], at) => {
    past[at].push(of(moment));
    past[at].splice(0, past[at].length - POINTS);
  });
  if ($("pause").getAttribute("aria-pressed") === "true") return;
  drawn ??= TILES.map(makeTile);
  TILES.forEach(([, of, text, beside, top], at) => drawn[at].draw(text(of(moment)), beside(moment), past[at], text, top));
  $("version").textContent = now.program.version;
  $("program").textContent = `${location.host}, up ${span(now.program.uptime_s)}, ${now.program.workers} workers`;
  showHealth(now);
  const sampled = `One access in ${now.sampling.one_in} is looked at; rates are of the last ${now.sampling.window_s} s.`;
  document.querySelectorAll(".sampling").forEach(note => { note.textContent = sampled; });
  for (const name of Object.keys(TABLES)) showTable(name, now[name]);
}

$("reasons").append(...Object.entries(REASONS).flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]));
run();
