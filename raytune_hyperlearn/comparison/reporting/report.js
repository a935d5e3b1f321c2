// Draws the page's figures with uPlot. Every number comes from the page's own data blocks; nothing is computed here
// but which of them to show. Without this script, and in print, the page shows the same figures as static SVG.
"use strict";
(() => {
  const plotted = new Map();  // element of a figure -> the function that draws it again
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const data = id => JSON.parse(document.getElementById(id).textContent);
  const styleOf = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const make = (tag, attributes = {}, text = "") => {
    const element = Object.assign(document.createElement(tag), { textContent: text });
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const plain = value => {
    if (value == null || !Number.isFinite(value)) return "none";
    const size = Math.abs(value);
    const text = size !== 0 && (size < 1e-4 || size >= 1e6) ? value.toExponential(2) : String(+value.toPrecision(4));
    return text.replace("-", "−");
  };

  // Dark pages need lighter lines; the mix keeps each method's hue.
  const shade = hex => {
    if (!dark.matches) return hex;
    const [r, g, b] = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
    const light = (0.299 * r + 0.587 * g + 0.114 * b) / 255;
    const mix = light < 0.55 ? 0.45 * (1 - light) + 0.15 : 0;
    return `rgb(${[r, g, b].map(part => Math.round(part + (255 - part) * mix)).join()})`;
  };
  const faint = (color, alpha) => {
    const [r, g, b] = color.startsWith("#")
      ? [1, 3, 5].map(i => parseInt(color.slice(i, i + 2), 16)) : color.match(/\d+/g);
    return `rgba(${r},${g},${b},${alpha})`;
  };

  const rounds = (low, high, digits) => {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const digit of digits) {
        const tick = +`${digit}e${power}`;
        if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) found.push(tick);
      }
    return found;
  };
  const logTicks = (low, high, most) => {
    const every = rounds(low, high, [1, 2, 5]);
    if (every.length <= most) return every;
    const tens = rounds(low, high, [1]);
    return tens.length > 1 ? tens : every.filter((_, i) => i % 2 === 0);
  };
  const signedTicks = (low, high, linear, most) => {
    const above = high > linear ? logTicks(linear, high, most) : [];
    const below = -low > linear ? logTicks(linear, -low, most).map(tick => -tick).reverse() : [];
    return [...below, 0, ...above];
  };
  const axisOf = (kind, linear, most) => {
    if (kind === "log") return (_, __, low, high) => logTicks(low, high, most);
    if (kind === "signed") return (_, __, low, high) => signedTicks(low, high, linear, most);
    return undefined;
  };
  const scaleOf = (kind, linear) =>
    kind === "log" ? { distr: 3 } : kind === "signed" ? { distr: 4, asinh: linear } : { distr: 1 };

  // All series on the union of their abscissae; a step keeps its value, a line has a gap-free run of its own points.
  const aligned = (spec, shown) => {
    const union = [...new Set(shown.flatMap(series => series.x))].sort((a, b) => a - b);
    const place = new Map(union.map((x, i) => [x, i]));
    const rows = shown.map(series => {
      const spread = values => {
        if (!values) return null;
        const row = new Array(union.length).fill(spec.stepped ? null : undefined);
        series.x.forEach((x, i) => { row[place.get(x)] = values[i]; });
        if (!spec.stepped) return row;
        const last = place.get(series.x.at(-1));
        for (let i = 1; i <= last; i++) if (row[i] === null && row[i - 1] !== null) row[i] = row[i - 1];
        return row;
      };
      return { middle: spread(series.y), lower: spread(series.lower), upper: spread(series.upper) };
    });
    return { union, rows };
  };

  const extent = values => {
    const known = values.filter(value => value != null && Number.isFinite(value));
    return known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
  };
  const rangeOf = (kind, [low, high], linear) => {
    if (kind === "log") return [low / 1.15, high * 1.15];
    if (kind === "signed") return [low < 0 ? 1.35 * low - 0.2 * linear : -0.4 * linear, Math.max(1.3 * high, 1.5 * linear)];
    const room = 0.05 * (high - low) || Math.abs(high) * 0.1 || 0.1;
    return [low - room, high + room];
  };

  // Names at the right edge beside the ends of their lines, moved apart where they would touch.
  const nameEnds = (plot, shown) => {
    const { ctx, bbox } = plot, ratio = devicePixelRatio, gap = 12.5 * ratio;
    const ends = shown.filter(series => series.label).map(series => ({
      text: series.label, color: shade(series.color), at: plot.valToPos(series.y.at(-1), "y", true),
    })).filter(end => Number.isFinite(end.at)).sort((a, b) => a.at - b.at);
    let floor = bbox.top;
    for (const end of ends) { end.place = Math.max(end.at, floor); floor = end.place + gap; }
    let ceiling = bbox.top + bbox.height;
    for (const end of [...ends].reverse()) { end.place = Math.min(end.place, ceiling); ceiling = end.place - gap; }
    ctx.save();
    ctx.font = `600 ${11.5 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "middle"; ctx.textAlign = "left";
    for (const end of ends) {
      const x = bbox.left + bbox.width;
      ctx.strokeStyle = ctx.fillStyle = end.color;
      ctx.lineWidth = ratio;
      ctx.beginPath(); ctx.moveTo(x, end.at); ctx.lineTo(x + 8 * ratio, end.place); ctx.stroke();
      ctx.fillText(end.text, x + 11 * ratio, end.place);
    }
    ctx.restore();
  };
  const shadeBelowZero = (plot, has) => {
    if (!has || plot.scales.y.min >= 0) return;
    const { ctx, bbox } = plot, ratio = devicePixelRatio, ink = styleOf("--ink");
    const zero = Math.max(plot.valToPos(0, "y", true), bbox.top), bottom = bbox.top + bbox.height;
    ctx.save();
    ctx.fillStyle = ctx.strokeStyle = ink;
    ctx.globalAlpha = 0.07; ctx.fillRect(bbox.left, zero, bbox.width, bottom - zero);
    ctx.globalAlpha = 0.75; ctx.lineWidth = ratio;
    ctx.beginPath(); ctx.moveTo(bbox.left, zero); ctx.lineTo(bbox.left + bbox.width, zero); ctx.stroke();
    if (bottom - zero > 16 * ratio) {
      ctx.font = `${11 * ratio}px system-ui, sans-serif`; ctx.textBaseline = "top"; ctx.textAlign = "left";
      ctx.fillText("better than the reference ↓", bbox.left + 6 * ratio, zero + 3 * ratio);
    }
    ctx.restore();
  };

  const indexAt = (series, x) => {
    let found = -1;
    for (let i = 0; i < series.x.length && series.x[i] <= x; i++) found = i;
    return found;
  };
  const describe = (spec, series, x) => {
    const i = indexAt(series, x);
    if (i < 0) return `${series.name}: no value yet at ${plain(x)}`;
    const band = series.lower ? ` [${plain(series.lower[i])}, ${plain(series.upper[i])}]` : "";
    const note = series.notes ? series.notes[Math.min(i, series.notes.length - 1)] : "";
    return `${series.name} at ${plain(x)} ${spec.xShort}: ${plain(series.y[i])}${band}${note ? ` · ${note}` : ""}`;
  };

  // One figure: `box` holds it, `spec` says what is drawn, `hidden` which methods are not.
  const draw = (box, spec, hidden, readout) => {
    box.replaceChildren();
    const shown = spec.series.filter(series => !hidden.has(series.method) && series.x.length);
    if (!shown.length) { box.append(make("p", { class: "note" }, "Nothing to show: every method is hidden, or none has a result in most of its runs.")); return; }
    const { union, rows } = aligned(spec, shown);
    const values = rows.flatMap(row => [...row.middle, ...(row.lower ?? []), ...(row.upper ?? [])]);
    const yKind = spec.yKind === "log" && extent(values)[0] <= 0 ? "signed" : spec.yKind;
    const xKind = spec.xKind === "log" && union[0] <= 0 ? "linear" : spec.xKind;
    const ink = styleOf("--ink"), line = styleOf("--line"), columns = [union], drawn = [{}], bands = [];
    shown.forEach((series, i) => {
      const color = shade(series.color), stepped = spec.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined;
      const common = { scale: "y", paths: stepped, points: { show: !spec.stepped && union.length < 60, size: 5 }, spanGaps: !spec.stepped };
      if (rows[i].lower) {
        const edge = { ...common, stroke: "transparent", width: 0, points: { show: false }, pxAlign: 0 };
        bands.push({ series: [drawn.length + 1, drawn.length], fill: faint(color, 0.16) });
        columns.push(rows[i].lower, rows[i].upper);
        drawn.push({ ...edge }, { ...edge });
      }
      series.column = drawn.length;
      columns.push(rows[i].middle);
      drawn.push({ ...common, label: series.name, stroke: series.faint ? faint(color, 0.45) : color, width: series.width, dash: series.dash });
    });
    const names = shown.filter(series => series.label).map(series => series.label.length);
    const narrow = box.clientWidth < 520;
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif", labelFont: "13px system-ui, sans-serif" };
    const options = {
      width: box.clientWidth, height: narrow ? 300 : spec.height ?? 380,
      padding: [10, names.length ? 18 + 8.6 * Math.max(...names) : 12, 0, 0],
      scales: {
        x: { time: false, ...scaleOf(xKind, 1), range: () => rangeOfX(xKind, union, spec) },
        y: { ...scaleOf(yKind, spec.linearBelow), range: () => rangeOf(yKind, extent(values), spec.linearBelow) },
      },
      axes: [
        { ...axis, label: spec.xName, splits: axisOf(xKind, 1, narrow ? 5 : 9), values: (_, ticks) => ticks.map(plain), filter: (_, ticks) => ticks },
        { ...axis, label: spec.yName, size: 62, splits: axisOf(yKind, spec.linearBelow, 7), values: (_, ticks) => ticks.map(plain), filter: (_, ticks) => ticks },
      ],
      series: drawn, bands, legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { show: false } },
      hooks: {
        drawAxes: [plot => shadeBelowZero(plot, spec.hasZero)],
        draw: [plot => nameEnds(plot, shown)],
        setCursor: [plot => {
          if (plot.cursor.left < 0 || plot.cursor.idx == null || box.dataset.keys) return;
          const x = plot.posToVal(plot.cursor.left, "x");
          const nearest = shown.reduce((best, series) => {
            const at = indexAt(series, x);
            const away = at < 0 ? Infinity : Math.abs(plot.valToPos(series.y[at], "y") - plot.cursor.top);
            return away < best[0] ? [away, series] : best;
          }, [Infinity, null])[1];
          if (nearest) readout.textContent = describe(spec, nearest, x);
        }],
      },
    };
    const plot = new uPlot(options, columns, box);
    box.onkeydown = event => byKey(event, box, plot, spec, shown, union, readout);
    box.onpointermove = () => { delete box.dataset.keys; };
  };
  const rangeOfX = (kind, union, spec) => {
    const [low, high] = [union[0], union.at(-1)];
    if (kind === "log") return [Math.max(low * 0.9, high / 1e5), high > low ? high : low * 1.2];
    return [spec.xFrom ?? low, high > low ? high : low + 1];
  };
  const byKey = (event, box, plot, spec, shown, union, readout) => {
    const now = { at: +(box.dataset.at ?? union.length - 1), which: +(box.dataset.which ?? 0) };
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-union.length, 0], End: [union.length, 0] };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const at = Math.min(Math.max(now.at + move[0], 0), union.length - 1);
    const which = (now.which + move[1] + shown.length) % shown.length;
    Object.assign(box.dataset, { at, which, keys: "yes" });
    const series = shown[which], i = indexAt(series, union[at]);
    plot.setCursor({ left: plot.valToPos(union[at], "x"), top: i < 0 ? 0 : plot.valToPos(series.y[i], "y") }, false);
    readout.textContent = describe(spec, series, union[at]);
  };

  // Method names as buttons: pressed means shown.
  const legend = (holder, methods, hidden, redraw) => {
    holder.replaceChildren(...methods.map(({ method, label, name, color, dash }) => {
      const button = make("button", { type: "button", "aria-pressed": String(!hidden.has(method)), title: `Show or hide ${name}` });
      const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.borderTop = `3px ${dash ? "dashed" : "solid"} ${shade(color)}`;
      button.append(swatch, make("span", {}, label));
      button.onclick = () => {
        hidden.has(method) ? hidden.delete(method) : hidden.add(method);
        button.setAttribute("aria-pressed", String(!hidden.has(method)));
        redraw();
      };
      return button;
    }));
  };

  const interactive = (figure, specOf, methods, controls) => {
    const live = make("div", { class: "live" }), toolbar = make("div", { class: "toolbar" });
    const names = make("div", { class: "names", role: "group", "aria-label": "Methods shown" });
    const box = make("div", { class: "plot", tabindex: "0", role: "group", "aria-label": `${figure.dataset.title}. Left and right arrows move along the axis, up and down change the line.` });
    const readout = make("p", { class: "readout", "aria-live": "polite" }, "Point at the figure, or focus it and use the arrow keys, to read values.");
    const hidden = new Set();
    const redraw = () => draw(box, specOf(), hidden, readout);
    for (const control of controls) toolbar.append(control(redraw));
    live.append(...(controls.length ? [toolbar] : []), names, box, readout);
    figure.prepend(live);
    const again = () => { legend(names, methods, hidden, redraw); redraw(); };
    plotted.set(box, again);
    let width = 0;
    new ResizeObserver(() => { if (box.clientWidth && box.clientWidth !== width) { width = box.clientWidth; again(); } }).observe(box);
  };

  const choice = (name, entries, state, key) => redraw => {
    const label = make("label", {}, `${name} `), select = make("select", { "data-switch": key });
    for (const [value, text] of entries) select.append(make("option", { value }, text));
    select.value = state[key];
    select.onchange = () => { state[key] = select.value; redraw(); };
    label.append(select);
    return label;
  };

  const explorer = figure => {
    const { clocks, quantities, views, methods, notes, linearBelow, hasZero, logValues } = data(figure.dataset.source);
    const state = { clock: clocks[0].id, quantity: quantities[0].id, axis: "log", scale: logValues ? "log" : "linear", spread: "band" };
    const spec = () => {
      const clock = clocks.find(item => item.id === state.clock), quantity = quantities.find(item => item.id === state.quantity);
      const series = views[state.clock][state.quantity][state.spread];
      const noted = series.map(item => item.run === undefined ? item : { ...item, notes: notes[item.run] });
      return {
        series: noted, stepped: true, hasZero, linearBelow, xName: clock.name, xShort: clock.short, yName: quantity.name,
        xKind: state.axis, yKind: state.scale === "log" ? (hasZero ? "log" : "log") : "linear",
      };
    };
    const pairs = items => items.map(item => [item.id, item.label]);
    interactive(figure, spec, methods, [
      choice("Over", pairs(clocks), state, "clock"),
      choice("of", pairs(quantities), state, "quantity"),
      choice("shown as", [["band", "median and quartiles"], ["seeds", "every seed"]], state, "spread"),
      choice("value axis", [["log", "logarithmic"], ["linear", "linear"]], state, "scale"),
      choice("time axis", [["log", "logarithmic"], ["linear", "linear"]], state, "axis"),
    ]);
  };
  const chart = figure => {
    const spec = data(figure.dataset.source);
    interactive(figure, () => spec, spec.methods, []);
  };

  document.documentElement.classList.add("scripted");
  for (const figure of document.querySelectorAll("figure[data-kind=regret]")) explorer(figure);
  for (const figure of document.querySelectorAll("figure[data-kind=chart]")) chart(figure);
  dark.addEventListener("change", () => plotted.forEach(again => again()));

  // The contents stand beside the page where there is room; on a phone they start folded.
  const contents = document.getElementById("contents");
  if (contents && !matchMedia("(min-width: 78rem)").matches) contents.open = false;
  // A link to a heading inside a fold opens the fold; paper has no folds.
  const reveal = () => {
    const target = location.hash ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
    for (let element = target; element; element = element.parentElement) if (element.tagName === "DETAILS") element.open = true;
    target?.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach(element => { element.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach(element => { element.open = false; }));
})();
