// Draws the figures, sorts and filters tables, switches the theme, gives records back.
"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const percent = (v) => `${(100 * v).toFixed(1)} %`;
  const short = (v) => (v === 0 ? "0" : Math.abs(v) < 1e-3 || Math.abs(v) >= 1e5 ? v.toExponential(1) : String(+v.toPrecision(3)));
  const PALETTE = [1, 2, 3, 4, 5, 6, 7].map((n) => `var(--s${n})`);
  const TONES = { attack: "var(--s1)", worst: "var(--bad)", noise: "var(--s8)", claim: "var(--s5)", clean: "var(--s3)", own: "var(--s2)", good: "var(--good)", warn: "var(--warn)", bad: "var(--bad)", quiet: "var(--s8)" };
  const SHAPES = { warn: "triangle", bad: "square" }; // for those who see no colours
  const NS = "http://www.w3.org/2000/svg";

  const colours = (items) => {
    let next = 0;
    return items.map((item) => TONES[item.tone] || PALETTE[next++ % PALETTE.length]);
  };

  const el = (name, attributes = {}, ...children) => {
    const made = name === "svg" || name === "line" || name === "circle" || name === "path" ? document.createElementNS(NS, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };

  // what a line or a dot stands for; texts go in as text
  const keys = (entries) => {
    const list = el("ul", { class: "keys", "aria-hidden": "true" });
    for (const { name, colour, dashed, dot, shape } of entries) {
      const sign = el("svg", { width: 18, height: 10 });
      if (shape === "square") sign.append(el("path", { d: "M5 1h8v8h-8z", style: `fill:${colour}` }));
      else if (shape === "triangle") sign.append(el("path", { d: "M9 0l5 9h-10z", style: `fill:${colour}` }));
      else if (dot) sign.append(el("circle", { cx: 9, cy: 5, r: 4, style: `fill:${colour}` }));
      else sign.append(el("line", { x1: 0, x2: 18, y1: 5, y2: 5, "stroke-width": 2.5, style: `stroke:${colour}`, ...(dashed ? { "stroke-dasharray": "4 3" } : {}) }));
      list.append(el("li", {}, sign, ` ${name}`));
    }
    return list;
  };

  const shares = (f) => !f.y || !f.y.scale;
  const floor = (f) => (f.steps ? Math.max(0, Math.floor(10 * Math.min(...f.series.flatMap((s) => s.points.map((p) => p[1])))) / 10 - 0.1) : 0);
  const yAxis = (f) => (shares(f) ? { label: f.y?.label ?? "stands", domain: [floor(f), 1], tickFormat: (v) => `${Math.round(100 * v)} %`, ticks: 5, grid: true } : { label: f.y.label, type: f.y.scale, grid: true, ticks: 5, tickFormat: short });
  const base = (width) => ({ width, marginLeft: 56, marginRight: 28, style: { fontSize: "13px", background: "none" } });

  const few = (width) => (width < 480 ? 3 : 5);
  const xScale = (f, values, width) => {
    const label = f.x.label;
    if (f.x.scale === "point") return { type: "point", domain: f.x.domain, label, tickRotate: f.x.domain.length > 6 ? -40 : 0, labelAnchor: "right", labelArrow: "none" };
    if (f.x.scale === "sqrt") return { type: "sqrt", label, ticks: thin(values, width), tickFormat: short };
    if (f.x.scale === "log" && !f.steps && new Set(values).size <= 8) return { type: "log", label, ticks: [...new Set(values)], tickFormat: short };
    if (f.x.scale === "log") return { type: "log", label, ticks: few(width), tickFormat: short };
    return { label, tickFormat: short };
  };

  // ticks at the budgets that were measured, as far as they do not touch
  const thin = (values, width) => {
    const sorted = [...new Set(values)].sort((a, b) => a - b);
    const top = sorted.at(-1), least = 46 / width;
    const kept = [];
    for (const v of sorted) {
      const at = Math.sqrt(v / top);
      if (v === top || ((!kept.length || at - Math.sqrt(kept.at(-1) / top) > least) && 1 - at > least)) kept.push(v);
    }
    return kept;
  };

  const lines = (f, width) => {
    const paint = colours(f.series);
    const marks = [];
    const rotated = f.x.scale === "point" && f.x.domain.length > 6;
    f.series.forEach((s, i) => {
      const rows = s.points.map(([x, y, low, high]) => ({ x, y, low, high }));
      if (rows.length && rows[0].low !== undefined) marks.push(Plot.areaY(rows, { x: "x", y1: "low", y2: "high", fill: paint[i], fillOpacity: 0.14 }));
      marks.push(Plot.lineY(rows, { x: "x", y: "y", stroke: paint[i], strokeWidth: 2, curve: f.steps ? "step-after" : "linear", strokeDasharray: s.dashed || s.tone === "noise" ? "4 3" : undefined }));
      if (!f.steps) marks.push(Plot.dot(rows, { x: "x", y: "y", fill: paint[i], r: 3 }));
    });
    const places = colours(f.marks);
    f.marks.forEach((m, i) => {
      const dx = 12 * (i - (f.marks.length - 1) / 2); // beside each other, for they share a budget
      marks.push(Plot.ruleX([m], { x: "x", y1: "low", y2: "high", dx, stroke: places[i], strokeWidth: 1.5 }));
      marks.push(Plot.dot([m], { x: "x", y: "y", dx, fill: places[i], stroke: "var(--paper)", r: 6 }));
    });
    const rows = f.series.flatMap((s) => s.points.map(([x, y]) => ({ x, y, name: s.name })));
    marks.push(Plot.tip(rows, Plot.pointer({ x: "x", y: "y", title: (d) => `${d.name}\n${typeof d.x === "number" ? short(d.x) : d.x}: ${shares(f) ? percent(d.y) : short(d.y)}`, fill: "var(--card)", stroke: "var(--line)" })));
    if (f.x.at !== undefined) marks.unshift(Plot.ruleX([f.x.at], { stroke: "var(--soft)", strokeDasharray: "2 3" }));
    const xs = [...rows.map((r) => r.x), ...f.marks.map((m) => m.x)];
    const svg = Plot.plot({ ...base(width), marginTop: 30, height: Math.max(230, Math.min(360, width * 0.45)) + (rotated ? 60 : 0), marginBottom: rotated ? 100 : 50, x: xScale(f, xs, width), y: yAxis(f), marks });
    const legend = [...f.series.map((s, i) => ({ name: s.name, colour: paint[i], dashed: s.dashed || s.tone === "noise" })), ...f.marks.map((m, i) => ({ name: m.name, colour: places[i], dot: true }))];
    return legend.length > 1 ? [keys(legend), svg] : [svg];
  };

  const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
  const room = (names, width) => Math.min(Math.max(...names.map((n) => n.length)) * 7.2 + 22, width * 0.42);

  const bars = (f, width) => {
    const left = room(f.rows.map((r) => r.name), width);
    const svg = Plot.plot({
      ...base(width), marginLeft: left, marginTop: 36, height: 70 + 24 * f.rows.length,
      x: { axis: "top", label: f.x.label, domain: [0, 1], tickFormat: (v) => `${Math.round(100 * v)} %`, ticks: few(width - left), grid: true },
      y: { label: null, domain: f.rows.map((r) => r.name), tickFormat: (n) => cut(n, Math.floor((left - 14) / 7.2)), tickSize: 0 },
      marks: [
        Plot.barX(f.rows, { x1: 0, x2: "to", y: "name", fill: "var(--s1)", fillOpacity: 0.28, insetTop: 3, insetBottom: 3 }),
        Plot.barX(f.rows, { x1: "to", x2: "from", y: "name", fill: "var(--bad)", fillOpacity: 0.8, insetTop: 3, insetBottom: 3 }),
        Plot.text(f.rows, { x: "from", y: "name", text: (r) => `−${(100 * (r.from - r.to)).toFixed(1)}`, textAnchor: "start", dx: 5, fill: "var(--ink)" }),
      ],
    });
    return [keys([{ name: "still stands", colour: "var(--s1)", dot: true }, { name: "broken by this attack", colour: "var(--bad)", dot: true }]), svg];
  };

  const dots = (f, width) => {
    const names = [...new Set(f.rows.map((r) => r.name))];
    const left = room(names, width);
    const log = f.x.scale === "log";
    const groups = [...new Set(f.rows.map((r) => r.group ?? ""))];
    const paint = (r) => TONES[r.tone] || "var(--s1)";
    const marks = [];
    if (f.x.at !== undefined) marks.push(Plot.ruleX([f.x.at], { stroke: "var(--soft)", strokeDasharray: "2 3" }));
    marks.push(Plot.ruleY(f.rows.filter((r) => r.low !== undefined), { y: "name", x1: "low", x2: "high", stroke: paint, strokeWidth: 1.5 }));
    marks.push(Plot.dot(f.rows, { y: "name", x: "value", fill: paint, r: 5 }));
    marks.push(Plot.tip(f.rows, Plot.pointerY({ y: "name", x: "value", title: (r) => `${r.name}\n${r.group ? `${r.group}: ` : ""}${log ? short(r.value) : percent(r.value)}`, fill: "var(--card)", stroke: "var(--line)" })));
    const top = Math.min(1, Math.max(0.05, ...f.rows.map((r) => r.high ?? r.value)) * 1.05);
    const svg = Plot.plot({
      ...base(width), marginLeft: left, marginTop: 36, height: 70 + 24 * names.length,
      x: log ? { axis: "top", type: "log", label: f.x.label, tickFormat: short, ticks: few(width - left), grid: true } : { axis: "top", label: f.x.label, domain: [0, top], tickFormat: (v) => `${+(100 * v).toFixed(1)} %`, ticks: few(width - left), grid: true },
      y: { label: null, domain: names, tickFormat: (n) => cut(n, Math.floor((left - 14) / 7.2)), tickSize: 0 },
      marks,
    });
    return groups.length > 1 ? [keys(groups.map((g) => ({ name: g, colour: paint(f.rows.find((r) => r.group === g)), dot: true }))), svg] : [svg];
  };

  const matrix = (f, width) => {
    const left = room(f.names, width);
    const side = Math.min(60, (width - left - 20) / f.names.length);
    const svg = Plot.plot({
      ...base(left + 20 + side * f.names.length), marginLeft: left, marginTop: 12, marginBottom: left * 0.75, height: side * 0.72 * f.names.length + left * 0.75 + 16,
      x: { domain: f.names, label: null, tickRotate: -40, tickSize: 0, tickFormat: (n) => cut(n, Math.floor((left - 14) / 7.2)) },
      y: { domain: f.names, label: null, tickSize: 0, tickFormat: (n) => cut(n, Math.floor((left - 14) / 7.2)) },
      marks: [
        Plot.cell(f.cells, { x: "column", y: "row", fill: "var(--s1)", fillOpacity: (c) => 0.06 + 0.5 * c.share, inset: 1, rx: 3 }),
        Plot.text(f.cells, { x: "column", y: "row", text: "text", fill: "var(--ink)" }),
      ],
    });
    return [svg];
  };

  const scatter = (f, width) => {
    const paint = (p) => TONES[p.tone] || "var(--s1)";
    const shape = (p) => SHAPES[p.tone] || "circle";
    const most = Math.max(1, ...f.points.map((p) => p.size));
    const front = f.points.filter((p) => p.front).sort((a, b) => a.x - b.x || b.y - a.y);
    const spare = f.points.length <= 12;
    const xs = f.points.flatMap((p) => [p.x_low, p.x_high]);
    const tail = (p) => p.x > (Math.min(...xs) + Math.max(...xs)) / 2;
    const names = (side) => Plot.text(spare ? f.points.filter((p) => tail(p) === side) : [], { x: "x", y: "y", text: (p) => cut(p.name, 28), textAnchor: side ? "end" : "start", dx: side ? -12 : 12, dy: -12, fill: "var(--ink)", stroke: "var(--paper)", strokeWidth: 4 });
    const svg = Plot.plot({
      ...base(width), marginTop: 30, height: Math.max(300, Math.min(440, width * 0.55)), marginBottom: 50,
      x: { label: f.x.label, tickFormat: (v) => `${+(100 * v).toFixed(1)} %`, ticks: few(width) + 1, grid: true, nice: true },
      y: { label: f.y.label, tickFormat: (v) => `${+(100 * v).toFixed(1)} %`, ticks: few(width) + 1, grid: true, nice: true },
      r: { type: "sqrt", domain: [0, most], range: [3, 9] },
      marks: [
        Plot.lineY(front, { x: "x", y: "y", stroke: "var(--soft)", strokeDasharray: "5 4" }),
        Plot.ruleX(f.points, { x: "x", y1: "low", y2: "high", stroke: paint, strokeOpacity: spare ? 0.8 : 0.35 }),
        Plot.ruleY(f.points, { y: "y", x1: "x_low", x2: "x_high", stroke: paint, strokeOpacity: spare ? 0.8 : 0.35 }),
        Plot.dot(f.points, { x: "x", y: "y", r: "size", symbol: shape, fill: paint, stroke: "var(--paper)" }),
        names(true), names(false),
        Plot.tip(f.points, Plot.pointer({ x: "x", y: "y", title: (p) => `${p.name}\nclean ${percent(p.x)}, worst case ${percent(p.y)}\n${p.status}`, fill: "var(--card)", stroke: "var(--line)" })),
      ],
    });
    const seen = [...new Map(f.points.map((p) => [p.status, { name: p.status, colour: paint(p), dot: true, shape: shape(p) }])).values()];
    return [keys([...seen, { name: "frontier", colour: "var(--soft)", dashed: true }]), svg];
  };

  const multiples = (f, width) => {
    const columns = Math.max(1, Math.min(f.panels.length, Math.floor(width / 200)));
    const rows = f.panels.flatMap((p, i) => p.points.map(([x, y, low, high]) => ({ x, y, low, high, fx: i % columns, fy: Math.floor(i / columns) })));
    const titles = f.panels.map((p, i) => ({ name: p.name, fx: i % columns, fy: Math.floor(i / columns) }));
    const most = Math.max(...rows.map((r) => r.x));
    const svg = Plot.plot({
      ...base(width), marginTop: 12, marginBottom: 40, height: 40 + 150 * Math.ceil(f.panels.length / columns),
      fx: { axis: null, padding: 0.08 }, fy: { axis: null, padding: 0.16 },
      x: { type: "sqrt", label: f.x.label, ticks: [0, most / 16, most / 4, most].map((v) => +v.toPrecision(2)), tickFormat: short },
      y: { domain: [0, 1], label: null, ticks: [0, 0.5, 1], tickFormat: (v) => `${100 * v} %`, grid: true },
      marks: [
        Plot.frame({ stroke: "var(--grid)" }),
        Plot.areaY(rows, { x: "x", y1: "low", y2: "high", fx: "fx", fy: "fy", fill: "var(--s1)", fillOpacity: 0.16 }),
        Plot.lineY(rows, { x: "x", y: "y", fx: "fx", fy: "fy", stroke: "var(--s1)", strokeWidth: 2 }),
        Plot.text(titles, { fx: "fx", fy: "fy", text: (p) => cut(p.name, 26), frameAnchor: "top-right", dx: -6, dy: 6, fontWeight: 600, fill: "var(--ink)", stroke: "var(--paper)", strokeWidth: 4 }),
      ],
    });
    return [svg];
  };

  const field = (f, width) => {
    const side = f.at.length, size = Math.min(width, 460);
    const most = Math.max(...f.values.map(Math.abs)) || 1;
    const cells = f.values.map((value, i) => ({ a: f.at[Math.floor(i / side)], b: f.at[i % side], value }));
    const step = f.at[1] - f.at[0];
    const box = { x1: (c) => c.a - step / 2, x2: (c) => c.a + step / 2, y1: (c) => c.b - step / 2, y2: (c) => c.b + step / 2 };
    const svg = Plot.plot({
      ...base(size), height: size * 0.86, marginBottom: 50,
      x: { label: f.x.label, tickFormat: short, ticks: 5 }, y: { label: f.y.label, tickFormat: short, ticks: 5 },
      marks: [
        Plot.rect(cells, { ...box, fill: (c) => (c.value < 0 ? "var(--s2)" : "var(--s1)"), fillOpacity: (c) => 0.05 + 0.85 * (Math.abs(c.value) / most) }),
        Plot.dot([[0, 0]], { fill: "var(--ink)", stroke: "var(--paper)", r: 5 }),
        Plot.tip(cells, Plot.pointer({ x: "a", y: "b", title: (c) => `margin ${short(c.value)}`, fill: "var(--card)", stroke: "var(--line)" })),
      ],
    });
    return [keys([{ name: "right", colour: "var(--s1)", dot: true }, { name: "wrong", colour: "var(--s2)", dot: true }]), svg];
  };

  const rasters = (f, width) => {
    const WAYS = { "=": ["both", "var(--s8)"], "+": ["added", "var(--s1)"], "-": ["removed", "var(--s2)"] };
    const shown = f.panels.slice(0, Math.max(1, Math.floor(width / 90)));
    const steps = Math.max(...shown.map((p) => p.rows[0].length)), deep = Math.max(...shown.map((p) => p.rows.length));
    const spikes = shown.flatMap((p, fx) => p.rows.flatMap((row, y) => [...row].flatMap((mark, x) => (WAYS[mark] ? [{ fx, x, y, mark }] : []))));
    const frames = shown.map((p, fx) => ({ fx, name: p.name, share: p.parted, x2: p.rows[0].length, y2: p.rows.length }));
    const first = shown.findIndex((p) => p.parted > 0);
    const svg = Plot.plot({
      ...base(width), marginLeft: 34, marginTop: 42, marginRight: 8, marginBottom: 36, height: 78 + Math.max(120, 4 * deep),
      fx: { axis: null, padding: 0.08, domain: frames.map((p) => p.fx) },
      x: { label: "step", domain: [0, steps], ticks: 0, labelAnchor: "center", labelArrow: "none" }, y: { label: null, domain: [deep, 0], ticks: 3, tickSize: 0 },
      marks: [
        Plot.rect(frames, { fx: "fx", x1: 0, x2: "x2", y1: 0, y2: "y2", stroke: (p) => (p.fx === first ? "var(--ink)" : "var(--grid)") }),
        Plot.rect(spikes, { fx: "fx", x1: "x", x2: (s) => s.x + 1, y1: "y", y2: (s) => s.y + 1, fill: (s) => WAYS[s.mark][1], insetLeft: steps > 20 ? 0 : 1, insetRight: steps > 20 ? 0 : 1, insetTop: 0.5, insetBottom: 0.5 }),
        Plot.text(frames, { fx: "fx", text: (p) => cut(p.name, Math.floor(width / shown.length / 8)), frameAnchor: "top", dy: -30, fontWeight: 600, fill: "var(--ink)" }),
        Plot.text(frames, { fx: "fx", text: (p) => `${percent(p.share)} differ`, frameAnchor: "top", dy: -14, fill: "var(--soft)" }),
      ],
    });
    return [keys(Object.values(WAYS).map(([name, colour]) => ({ name, colour, shape: "square" }))), svg];
  };

  const DRAW = { lines, bars, dots, matrix, scatter, multiples, field, rasters };
  const hidden = (place) => place.parentElement.closest("details:not([open])") !== null;
  const drawn = new Map();

  const roomOf = (place) => (hidden(place) ? 0 : Math.min(Math.max(place.clientWidth, 280), 1100));
  const draw = (place, width = roomOf(place)) => {
    if (!width || drawn.get(place) === width) return;
    drawn.set(place, width);
    const figure = figures[place.dataset.figure];
    place.replaceChildren(...DRAW[figure.kind](figure, width));
    for (const svg of place.querySelectorAll("svg")) svg.setAttribute("aria-hidden", "true");
  };

  // the text is painted first; then one figure after the other
  const places = [...document.querySelectorAll("[data-figure]")];
  let queue = [];
  const next = () => {
    const until = performance.now() + 30;
    while (queue.length && performance.now() < until) draw(...queue.shift());
    if (queue.length) setTimeout(next);
    else document.documentElement.dataset.drawn = "yes";
  };
  // all widths are asked for before anything is drawn: the page is laid out once
  const start = () => { queue = places.map((place) => [place, roomOf(place)]); next(); };
  requestAnimationFrame(() => setTimeout(start));
  let waiting;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(() => places.forEach((place) => draw(place)), 150); });
  for (const fold of document.querySelectorAll("details")) {
    fold.addEventListener("toggle", () => { if (fold.open) fold.querySelectorAll("[data-figure]").forEach((place) => draw(place)); });
  }
  const reveal = () => {
    const chapter = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const fold = chapter && chapter.closest("details");
    if (fold) { fold.open = true; chapter.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);
  reveal();
  addEventListener("beforeprint", () => places.forEach((place) => draw(place)));

  for (const button of document.querySelectorAll(".sort")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
      const column = head.cellIndex, numeric = head.classList.contains("n");
      const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : numeric;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => { const cell = row.cells[column]; return numeric ? (cell.dataset.v === undefined ? NaN : +cell.dataset.v) : cell.textContent; };
      const order = (a, b) => (numeric ? (Number.isNaN(a) ? 1 : Number.isNaN(b) ? -1 : down ? b - a : a - b) : (down ? -1 : 1) * a.localeCompare(b, "en", { numeric: true }));
      const rows = [...body.rows].map((row) => [value(row), row]);
      rows.sort(([a], [b]) => order(a, b));
      body.append(...rows.map(([, row]) => row));
    });
  }

  for (const field of document.querySelectorAll("[data-filter]")) {
    const body = document.getElementById(field.dataset.filter).tBodies[0];
    const texts = [...body.rows].map((row) => [row, row.textContent.toLowerCase()]);
    field.addEventListener("input", () => {
      const word = field.value.trim().toLowerCase();
      let kept = 0;
      for (const [row, text] of texts) { row.hidden = !text.includes(word); kept += !row.hidden; }
      document.getElementById(`${field.dataset.filter}-count`).textContent = `${kept} of ${texts.length} rows`;
    });
  }

  const theme = document.getElementById("theme"), order = ["system", "light", "dark"];
  let chosen = "system";
  const show = () => {
    theme.textContent = `Theme: ${chosen}`;
    if (chosen === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
  };
  try { chosen = order.includes(localStorage.getItem("spikeproof-theme")) ? localStorage.getItem("spikeproof-theme") : "system"; } catch { /* a page from the disk may have no storage */ }
  show();
  theme.addEventListener("click", () => {
    chosen = order[(order.indexOf(chosen) + 1) % order.length];
    show();
    try { localStorage.setItem("spikeproof-theme", chosen); } catch { /* as above */ }
  });

  for (const button of document.querySelectorAll("[data-download]")) {
    button.addEventListener("click", async () => {
      const packed = document.getElementById(button.dataset.download).textContent.trim();
      const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      const link = el("a", { href: URL.createObjectURL(await new Response(stream).blob()), download: button.dataset.file });
      link.click();
      URL.revokeObjectURL(link.href);
      document.getElementById(`${button.dataset.download}-said`).textContent = `saved as ${button.dataset.file}`;
    });
  }
})();
