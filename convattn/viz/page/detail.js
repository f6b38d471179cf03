// One head in full: its map with numbers, what it is like, the arithmetic of one weight, and the position's share.

import { drawCells, drawLines, drawOutlines, prepared } from "./cells.js";
import { LIT, colourOf, inkOn, scaleOf, short } from "./colours.js";
import { freshId, make, placeIn } from "./dom.js";
import { cellAt, cellName, extent } from "./geometry.js";
import { softmax } from "./layers.js";
import { METRICS, metricsOf, shiftText } from "./metrics.js";
import { nameInMap, prefixName, whose, wordsOf } from "./names.js";
import { cellsOf, isSigned, placeOf, tokensOf } from "./selection.js";

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** The panel; gives {element, update(map, scale, selection)}. */
export function createDetail(app) {
  const title = make("h3", {});
  const canvas = make("canvas", { className: "focus", tabIndex: 0, role: "application",
    "aria-label": "The map of the chosen head. Arrow keys choose the weight whose arithmetic is shown." });
  const prefix = make("div", { className: "tokens" });
  const facts = make("dl", { className: "facts" });
  const sums = make("div", { className: "sums" });
  const share = createShare(app);
  const element = make("div", { className: "detail" }, title, canvas, prefix, sums, share.element,
    make("details", {}, make("summary", {}, "What this head is like"), facts));
  let shown = null;

  const cellOf = (event) => {
    const [height, width] = extent(shown.grid);
    const [down, across] = placeIn(canvas, event);
    return cellAt(shown.grid, down * height - 0.5, across * width - 0.5);
  };
  canvas.addEventListener("pointermove", (event) => {
    const cell = shown && cellOf(event);
    if (cell === null) return;
    const name = nameInMap(app, shown, cell);
    app.point({ grid: shown.grid, cell, event, text: `${name}: ${short(shown.values[cell])}` });
  });
  canvas.addEventListener("pointerleave", () => app.point(null));
  canvas.addEventListener("click", (event) => {
    const cell = shown && cellOf(event);
    if (cell !== null) app.set({ weight: cell });
  });
  canvas.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || !shown) return;
    event.preventDefault();
    const { grid } = shown;
    const from = weightOf(shown, app.state.weight);
    const row = Math.min(Math.max(Math.floor(from / grid.width) + step[0], 0), grid.height - 1);
    const column = Math.min(Math.max((from % grid.width) + step[1], 0), grid.width - 1);
    app.set({ weight: row * grid.width + column });
  });

  function update(map, scale, selection) {
    const chosen = app.chosen();
    shown = map;
    element.hidden = !chosen || !map;
    if (element.hidden) return;
    const { layer, head } = chosen;
    title.textContent = `${layer.name}, head ${head}${whose(app, app.state.model)}`;
    const own = scale ?? scaleOf([map.values, map.prefix], isSigned(selection.mode, selection.average));
    const cell = weightOf(map, app.state.weight);
    const surface = drawFocus(canvas, element, layer, map, own, selection, cell);
    if (app.state.model === 0) drawOutlines(surface, map.grid, app.litOf(layer, head, map), 3, LIT);
    showPrefix(prefix, map);
    showFacts(facts, metricsOf(app, layer, head));
    showSums(sums, app, chosen, selection, cell);
    share.update(chosen, selection);
  }
  return { element, update };
}

/** The cell whose arithmetic is shown: the chosen one, else the largest. */
export function weightOf(map, wanted) {
  if (wanted !== null && wanted < map.values.length) return wanted;
  let best = 0;
  for (let i = 1; i < map.values.length; i++) if (!(map.values[i] <= map.values[best])) best = i;
  return best;
}

function drawFocus(canvas, element, layer, map, scale, selection, cell) {
  const { grid } = map;
  const [height, width] = extent(grid);
  const wide = Math.min(element.clientWidth || 300, 320);
  const isStrip = !grid.image && grid.height === 1;
  const surface = prepared(canvas, wide, isStrip ? 48 : Math.round((wide * height) / width));
  drawCells(surface, grid, map.values, scale);
  drawLines(surface, grid, "rgba(128, 128, 128, 0.4)", 4);
  drawNumbers(surface, grid, map.values, scale);
  const asked = selection.direction === "in" ? layer.keyGrid : layer.queryGrid;
  if (asked.image || asked.width === grid.width) drawOutlines(surface, asked, cellsOf(layer, asked, selection.at), 2);
  drawOutlines(surface, grid, [cell], 1);
  return surface;
}

/** The numbers of the cells in them, where there is room. */
function drawNumbers(surface, grid, values, scale) {
  const { context, ratio } = surface;
  const [height, width] = extent(grid);
  const [down, across] = [surface.height / height, surface.width / width];
  const [h, w] = [grid.stride[0] * down, grid.stride[1] * across];
  if (w < 26 * ratio || h < 14 * ratio) return;
  context.font = `${Math.min(12 * ratio, w / 3.2)}px ui-sans-serif, system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  values.forEach((value, cell) => {
    const colour = colourOf(scale, value);
    if (colour === null) return;
    context.fillStyle = inkOn(colour);
    const x = (grid.origin[1] + ((cell % grid.width) + 0.5) * grid.stride[1]) * across;
    const y = (grid.origin[0] + (Math.floor(cell / grid.width) + 0.5) * grid.stride[0]) * down;
    context.fillText(brief(value), x, y);
  });
}

function brief(value) {
  const text = Math.abs(value) >= 9.95 ? value.toFixed(0) : Math.abs(value) >= 1 ? value.toFixed(1) : value.toFixed(2).replace(/^(-?)0\./, "$1.");
  if (text === ".00" || text === "-.00") return "0";
  return text.replace("-", "−").replace("Infinity", "∞");
}

function showPrefix(element, map) {
  element.replaceChildren(...Array.from(map.prefix, (value, i) => make("span", { className: "token" }, `${prefixName(i)} ${short(value)}`)));
}

function showFacts(element, metrics) {
  const rows = METRICS.filter(({ name }) => metrics[name] !== undefined).map(({ name, label, means }) => {
    const shift = name === "peak" && metrics.peak_shift ? ` at ${shiftText(metrics.peak_shift)}` : "";
    return make("div", {}, make("dt", {}, label), make("dd", {}, short(metrics[name]) + shift, make("small", { className: "muted" }, means)));
  });
  element.replaceChildren(...rows);
}

/** How one weight comes about: q · k / √d + bias = logit; exp / sum = weight; times the value's length. */
function showSums(element, app, { layer, head }, selection, cell) {
  const tokens = tokensOf(layer, selection.direction === "in" ? layer.keyGrid : layer.queryGrid, selection.at);
  if (tokens?.length !== 1 || selection.average !== "one") {
    element.replaceChildren(make("p", { className: "muted small" }, "The arithmetic of a weight is that of one query in one image: choose a pixel and “this image”."));
    return;
  }
  const other = cell + layer.prefix;
  const [query, place] = selection.direction === "in" ? [other, tokens[0]] : [tokens[0], other];
  const key = keyAt(layer, query, place);
  const name = (grid, token, side) => (token < layer.prefix ? prefixName(token) : cellName(grid, token - layer.prefix, wordsOf(app, side)));
  const heading = make("h4", {}, `${name(layer.queryGrid, query, 0)} → ${name(layer.keyGrid, place, 1)}`);
  const lines = key === null ? [make("p", {}, "This key is not in the query's window: its weight is 0.")] : arithmetic(layer, head, selection, query, key);
  element.replaceChildren(heading, ...lines);
}

/** The number of a query's key that lies in a place; null: none. */
function keyAt(layer, query, place) {
  for (let key = 0; key < layer.keys; key++) if (placeOf(layer, query, key) === place) return key;
  return null;
}

function arithmetic(layer, head, { image, s }, query, key) {
  const row = (mode) => (layer.modes.includes(mode) ? layer.row(mode, image, head, query, s) : null);
  const [content, position, logits, weights] = ["content", "position", "logits", "probabilities"].map(row);
  const lines = [];
  const line = (sum, result, what) => lines.push(make("div", { className: "sum" }, make("span", {}, sum), make("b", {}, `= ${result}`), make("small", { className: "muted" }, what)));
  if (content) line("q · k / √d", short(content[key]), "content");
  if (position) line(s === 1 ? "bias of the shift" : `bias ${short(position[key])} × ${s}`, short(position[key] * s), "position");
  if (content && position && logits) line(`${short(content[key])} ${position[key] < 0 ? "−" : "+"} ${short(Math.abs(position[key] * s))}`, short(logits[key]), "logit");
  if (logits && layer.splits) {
    const highest = Math.max(...logits);
    const total = logits.reduce((sum, each) => sum + Math.exp(each - highest), 0);
    const power = Math.exp(logits[key] - highest);
    line(`exp(${short(logits[key])} − ${short(highest)})`, short(power), "less the largest logit, which changes nothing");
    line(`${short(power)} / ${short(total)}`, short(weights[key]), `weight; ${short(total)} is the sum over ${logits.length} keys`);
  } else line("weight", short(weights[key]), "as the model gave it");
  const norm = layer.norm(image, head, query, key);
  if (norm !== null) line(`${short(weights[key])} × ${short(norm)}`, short(weights[key] * norm), "times the length of the value behind its output matrix");
  return lines;
}

/** The slider s: softmax(content + s · position) beside softmax(content) and the kernel exp(position). */
function createShare(app) {
  const id = freshId("share");
  const input = make("input", { type: "range", id, min: 0, max: 2, step: 0.05, oninput: () => app.set({ s: Number(input.value) }) });
  const output = make("output", { for: id });
  const maps = ["content", "exp(position), its kernel", "both"].map((text) => {
    const canvas = make("canvas", {});
    const caption = make("figcaption", { className: "small" }, text);
    return { canvas, caption, figure: make("figure", {}, canvas, caption) };
  });
  const label = make("label", { htmlFor: id }, "position × s");
  const element = make("section", { className: "share" }, make("h4", {}, "Content and position"),
    make("div", { className: "field" }, label, input, output), make("div", { className: "three" }, ...maps.map(({ figure }) => figure)));

  function update({ layer, head }, selection) {
    const tokens = tokensOf(layer, layer.queryGrid, selection.at);
    element.hidden = !layer.splits || tokens?.length !== 1;
    if (element.hidden) return;
    input.value = selection.s;
    output.textContent = selection.s.toFixed(2);
    maps[2].caption.textContent = `content + ${selection.s} · position`;
    const image = Math.min(selection.image, layer.images);
    const rows = [
      softmax(layer.row("content", image, head, tokens[0])), softmax(layer.row("position", image, head, tokens[0])),
      layer.row("probabilities", image, head, tokens[0], selection.s),
    ];
    rows.forEach((row, i) => drawRow(maps[i].canvas, layer, tokens[0], row));
  }
  return { element, update };
}

function drawRow(canvas, layer, query, row) {
  const { keyGrid: grid } = layer;
  const values = new Float32Array(grid.height * grid.width).fill(NaN);
  row.forEach((each, key) => {
    const place = placeOf(layer, query, key);
    if (place !== null && place >= layer.prefix) values[place - layer.prefix] = each;
  });
  const [height, width] = extent(grid);
  const surface = prepared(canvas, 92, grid.height === 1 ? 20 : (92 * height) / width);
  drawCells(surface, grid, values, scaleOf([values], false));
  drawLines(surface, grid, "rgba(128, 128, 128, 0.35)", 4);
  if (query >= layer.prefix && layer.queryGrid.image) drawOutlines(surface, layer.queryGrid, [query - layer.prefix]);
}
