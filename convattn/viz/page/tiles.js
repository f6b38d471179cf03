// Every layer and head as a small map; those of one layer in a row, or all in the order of a metric.

import { drawCells, drawLines, drawOutlines, prepared } from "./cells.js";
import { LIT, scaleOf, short } from "./colours.js";
import { make, placeIn } from "./dom.js";
import { cellAt, extent } from "./geometry.js";
import { badge, METRICS, metricsOf } from "./metrics.js";
import { nameInMap } from "./names.js";
import { cellsOf, has, isSigned, mapOf } from "./selection.js";

/** The maps of one model; gives {element, update(maps, scale), tiles}. */
export function createTiles(app, which) {
  const element = make("div", { className: "maps", role: "radiogroup", "aria-label": "Heads; arrow keys choose one" });
  const tiles = new Map();
  let order = [];
  let built = null;

  element.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -1e9, End: 1e9 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const at = order.findIndex(({ layer, head }) => isChosen(layer, head));
    const next = order[Math.min(Math.max(at + step, 0), order.length - 1)];
    choose(next);
    tiles.get(keyOf(next)).element.focus();
  });

  const isChosen = (layer, head) =>
    app.state.model === which && app.state.layer === layer.name && app.state.head === head;
  const choose = ({ layer, head }) => app.set({ model: which, layer: layer.name, head, weight: null });

  function build() {
    built = app.state.sort;
    tiles.clear();
    order = app.layers(which).flatMap((layer) => Array.from({ length: layer.heads }, (_, head) => ({ layer, head })));
    const metric = METRICS.find(({ name }) => name === app.state.sort);
    if (metric) {
      const value = ({ layer, head }) => layer.metrics(head)[metric.name] ?? -Infinity;
      order.sort((one, other) => value(other) - value(one));
    }
    for (const entry of order) tiles.set(keyOf(entry), tileOf(entry, Boolean(metric)));
    element.replaceChildren(...(metric ? [flat()] : app.layers(which).map(section)));
  }

  const flat = () => make("div", { className: "row" }, ...order.map((entry) => tiles.get(keyOf(entry)).element));

  function section(layer) {
    const { queryGrid: grid } = layer;
    const size = grid.image ? `${grid.height} × ${grid.width} cells of ${grid.stride.map((each) => +each.toFixed(2)).join(" × ")} pixels` : `${layer.queries} tokens`;
    const keys = layer.keyCells ? `, ${layer.keys} keys each` : grid.height === layer.keyGrid.height && grid.width === layer.keyGrid.width ? "" : `, keys ${layer.keyGrid.height} × ${layer.keyGrid.width}`;
    const heading = make("h3", {}, make("span", {}, layer.name), " ", make("small", { className: "muted" }, size + keys));
    const row = order.filter((entry) => entry.layer === layer).map((entry) => tiles.get(keyOf(entry)).element);
    return make("section", { className: "layer" }, heading, make("div", { className: "row" }, ...row));
  }

  function tileOf(entry, named) {
    const { layer, head } = entry;
    const canvas = make("canvas", {});
    const most = make("span", { className: "most" });
    const label = badge(metricsOf(app, layer, head), layer.queryGrid);
    const title = named ? `${layer.name.replace("/attention", "")} · ${head}` : `head ${head}`;
    const tile = make("div", {
      className: layer.queryGrid.image ? "tile" : "tile wide", role: "radio", onclick: () => choose(entry),
      onkeydown: (event) => { if (event.key === " " || event.key === "Enter") { event.preventDefault(); choose(entry); } },
      onpointermove: (event) => pointAt(event, entry, canvas), onpointerleave: () => app.point(null),
    }, canvas, make("span", { className: "caption" }, make("b", {}, title), " ", most), label.element);
    return { element: tile, canvas, most, words: `${layer.name}, head ${head}; ${label.words}`, map: null };
  }

  function pointAt(event, { layer, head }, canvas) {
    const { map } = tiles.get(keyOf({ layer, head }));
    if (!map) return;
    const [height, width] = extent(map.grid);
    const [down, across] = placeIn(canvas, event);
    if (down < 0 || down >= 1) return;
    const cell = cellAt(map.grid, down * height - 0.5, across * width - 0.5);
    if (cell === null) return;
    const name = nameInMap(app, map, cell);
    app.point({ grid: map.grid, cell, event, text: `${name}: ${short(map.values[cell])}` });
  }

  /** The maps of all heads; those of layers that lack the mode are null. */
  function maps(selection) {
    if (built !== app.state.sort) build();
    return order.map(({ layer, head }) => (has(layer, selection) ? mapOf(layer, head, selection) : null));
  }

  function update(found, selection, scale) {
    order.forEach(({ layer, head }, i) => {
      const tile = tiles.get(keyOf({ layer, head }));
      tile.map = found[i];
      const checked = isChosen(layer, head);
      tile.element.setAttribute("aria-checked", String(checked));
      tile.element.tabIndex = checked || (i === 0 && app.state.model !== which) ? 0 : -1;
      const signed = isSigned(selection.mode, selection.average);
      const own = found[i] ? scale ?? scaleOf([found[i].values, found[i].prefix], signed) : null;
      const off = app.isOff(which, layer, head);
      tile.element.classList.toggle("off", off);
      const largest = own === null ? "not known" : scale ? "" : `to ${short(own.high)}`;
      const text = [off ? "switched off" : "", largest].filter(Boolean).join(", ");
      tile.most.textContent = text;
      tile.element.setAttribute("aria-label", `${tile.words}${text ? `; ${text}` : ""}`);
      const surface = drawMap(tile.canvas, layer, found[i], own, selection);
      if (found[i] && which === 0) drawOutlines(surface, found[i].grid, app.litOf(layer, head, found[i]), 2, LIT);
    });
  }

  return { element, maps, update, rebuild: () => { built = null; }, tile: (layer, head) => tiles.get(`${layer}#${head}`)?.element };
}

const keyOf = ({ layer, head }) => `${layer.name}#${head}`;

/** One map on its canvas, the queries outlined; gives what it is drawn on. */
export function drawMap(canvas, layer, map, scale, selection, across = 104) {
  const grid = map?.grid ?? layer.keyGrid;
  const [height, width] = extent(grid);
  const isStrip = !grid.image && grid.height === 1;
  const wide = isStrip ? 208 : Math.min(across, (across * 1.4 * width) / height);
  const surface = prepared(canvas, wide, isStrip ? 26 : (wide * height) / width);
  if (!map) return surface;
  drawCells(surface, grid, map.values, scale);
  drawLines(surface, grid, "rgba(128, 128, 128, 0.35)", 4);
  const asked = selection.direction === "in" ? layer.keyGrid : layer.queryGrid;
  // A query has a place among the keys where both are cells of one picture, or tokens of one row.
  if (asked.image || asked.width === grid.width) drawOutlines(surface, asked, cellsOf(layer, asked, selection.at));
  return surface;
}
