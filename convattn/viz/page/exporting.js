// The view as a figure, PNG or SVG, and as data; one layout is painted in both ways.

import { drawPicture } from "./cells.js";
import { colourOf, cssColour, scaleOf, short } from "./colours.js";
import { meaning } from "./controls.js";
import { make } from "./dom.js";
import { boxOf, extent } from "./geometry.js";
import { checkpointName, className, modelName, overlayName, placeName } from "./names.js";
import { npz } from "./npz.js";
import { cellsOf, has, isSigned } from "./selection.js";

const TILE = 96;
const GAP = 12;
const COLUMNS = 8;
const LINE = 13;
/** Letters of a line below the picture. */
const LETTERS = 36;
const FONT = "Helvetica, Arial, sans-serif";

/** Paints on a canvas. */
function canvasPainter(width, height, ratio) {
  const canvas = make("canvas", { width: width * ratio, height: height * ratio });
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return {
    fill(x, y, w, h, colour, alpha = 1) {
      context.globalAlpha = alpha;
      context.fillStyle = colour;
      context.fillRect(x, y, w, h);
      context.globalAlpha = 1;
    },
    frame(x, y, w, h, colour) {
      context.strokeStyle = colour;
      context.strokeRect(x, y, w, h);
    },
    text(x, y, size, words, anchor = "start") {
      context.fillStyle = "#000";
      context.font = `${size}px ${FONT}`;
      context.textAlign = anchor === "middle" ? "center" : anchor;
      context.fillText(words, x, y);
    },
    picture(x, y, w, h, picture) {
      context.imageSmoothingEnabled = false;
      context.drawImage(picture, x, y, w, h);
    },
    blob: () => new Promise((done) => canvas.toBlob(done, "image/png")),
  };
}

/** Paints an SVG: every cell a rectangle. */
function svgPainter(width, height) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const number = (value) => String(Math.round(value * 1000) / 1000);
  const add = (tag, attributes, words) => {
    const element = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, typeof value === "number" ? number(value) : value);
    if (words !== undefined) element.textContent = words;
    svg.append(element);
  };
  svg.setAttribute("xmlns", space);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  return {
    fill: (x, y, w, h, colour, alpha = 1) => add("rect", { x, y, width: w, height: h, fill: colour, "fill-opacity": alpha, "shape-rendering": "crispEdges" }),
    frame: (x, y, w, h, colour) => add("rect", { x, y, width: w, height: h, fill: "none", stroke: colour }),
    text: (x, y, size, words, anchor = "start") => add("text", { x, y, "font-size": size, "font-family": FONT, "text-anchor": anchor }, words),
    picture: (x, y, w, h, picture) => add("image", { x, y, width: w, height: h, href: picture.toDataURL(), "image-rendering": "pixelated" }),
    blob: async () => new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" }),
  };
}

/** Where everything goes: a list of tiles with places, and the size of the whole. */
function layout(app) {
  const selection = app.selection();
  const layers = app.layers(app.state.model);
  const entries = layers.filter((layer) => has(layer, selection)).flatMap((layer) => Array.from({ length: layer.heads }, (_, head) => ({ layer, head, map: app.map(layer, head) })));
  const [height, width] = extent(entries[0]?.map.grid ?? { height: 1, width: 1, stride: [1, 1] });
  const tall = Math.max(20, (TILE * height) / width);
  const columns = Math.min(COLUMNS, Math.max(...layers.map((layer) => layer.heads)));
  const left = TILE * 2 + GAP * 3;
  const places = [];
  let y = GAP + 40;
  for (const layer of layers) {
    const own = entries.filter((entry) => entry.layer === layer);
    own.forEach((entry, i) => places.push({ ...entry, x: left + (i % columns) * (TILE + GAP), y: y + Math.floor(i / columns) * (tall + 22), first: i === 0 }));
    if (own.length) y += Math.ceil(own.length / columns) * (tall + 22) + 14;
  }
  const below = facts(app).length * LINE + (app.overlay() ? 44 : 14) + 70;
  return { places, tall, left, width: left + columns * (TILE + GAP), height: Math.max(y, (TILE * 2 * app.size[0]) / app.size[1] + below) + 34 };
}

function paint(painter, app, { places, tall, left, width, height }) {
  const selection = app.selection();
  const signed = isSigned(selection.mode, selection.average);
  const all = places.flatMap(({ map }) => [map.values, map.prefix]);
  const shared = app.state.scale === "shared" ? scaleOf(all, signed) : null;
  painter.fill(0, 0, width, height, "#fff");
  painter.text(GAP, GAP + 12, 14, app.manifest.title);
  paintPicture(painter, app, GAP, GAP + 40, TILE * 2);
  for (const { layer, head, map, x, y, first } of places) {
    if (first) painter.text(x, y - 4, 9, layer.name);
    const scale = shared ?? scaleOf([map.values, map.prefix], signed);
    paintMap(painter, layer, map, scale, selection, x, y, TILE, tall);
    painter.text(x, y + tall + 11, 9, `head ${head}${shared ? "" : `, to ${short(scale.high)}`}`);
  }
  const bar = shared ?? { low: signed ? -1 : 0, high: 1, kind: signed ? "diverging" : "sequential" };
  paintBar(painter, bar, left, height - 26);
  painter.text(left, height - 6, 9, shared ? short(bar.low) : signed ? "−" : "0");
  painter.text(left + 140, height - 6, 9, shared ? short(bar.high) : "own largest", "end");
  painter.text(left + 150, height - 17, 9, meaning(selection));
}

function paintPicture(painter, app, x, y, across) {
  const [height, width] = app.size;
  const side = across / width;
  const bytes = app.bytesOf(app.state.image);
  let below = y;
  if (bytes) {
    const canvas = make("canvas", { width, height });
    drawPicture({ context: canvas.getContext("2d"), width, height }, bytes, height, width);
    painter.picture(x, y, across, height * side, canvas);
    below += height * side;
  }
  const overlay = app.overlay();
  if (overlay) below = paintOverlay(painter, app, overlay, x, y, side);
  if (bytes) {
    const { layer } = app.chosen();
    const { at, direction } = app.selection();
    paintOutlines(painter, layer, direction === "in" ? layer.keyGrid : layer.queryGrid, at, x, y, side, side);
  }
  facts(app).forEach((line, i) => painter.text(x, below + 14 + i * LINE, 10, line));
}

/** What is laid over the picture, and below it the bar of its colours; gives where that ends. */
function paintOverlay(painter, app, { grid, values, signed }, x, y, side) {
  const scale = scaleOf([values], signed);
  paintCells(painter, grid, values, scale, x, y, side, side, 0.72);
  const below = y + app.size[0] * side + 8;
  paintBar(painter, scale, x, below);
  painter.text(x, below + 20, 9, short(scale.low));
  painter.text(x + 140, below + 20, 9, short(scale.high), "end");
  return below + 22;
}

function paintBar(painter, bar, x, y) {
  for (let i = 0; i < 100; i++) painter.fill(x + i * 1.4, y, 1.4, 10, cssColour(colourOf(bar, bar.low + ((bar.high - bar.low) * i) / 99)));
}

/** What the picture shows, in lines: image, class, place, head, overlay, model, checkpoint. */
function facts(app) {
  const { layer, head } = app.chosen();
  const { model } = app.state;
  const known = [
    app.imageName(app.state.image), className(app.image(), app.className), placeName(app, app.selection()), `${layer.name}, head ${head}`,
    app.overlay() ? `over it: ${overlayName(app)}` : "", app.models > 1 ? modelName(app, model) : "", checkpointName(app, model),
  ];
  return known.filter(Boolean).flatMap(wrapped);
}

/** A text in lines of at most LETTERS, broken between words where there are such. */
function wrapped(text) {
  return text.match(new RegExp(`.{1,${LETTERS}}(?= |$)|.{1,${LETTERS}}`, "gu")).map((line) => line.trim());
}

function paintCells(painter, grid, values, scale, x, y, down, across, alpha = 1) {
  values.forEach((value, cell) => {
    const colour = colourOf(scale, value);
    const { top, left, bottom, right } = boxOf(grid, cell);
    if (colour) painter.fill(x + left * across, y + top * down, (right - left) * across, (bottom - top) * down, cssColour(colour), alpha);
  });
}

function paintMap(painter, layer, { grid, values }, scale, selection, x, y, w, h) {
  const [height, width] = extent(grid);
  paintCells(painter, grid, values, scale, x, y, h / height, w / width);
  const asked = selection.direction === "in" ? layer.keyGrid : layer.queryGrid;
  const [askedHeight, askedWidth] = extent(asked);
  paintOutlines(painter, layer, asked, selection.at, x, y, h / askedHeight, w / askedWidth);
}

function paintOutlines(painter, layer, grid, at, x, y, down, across) {
  for (const cell of cellsOf(layer, grid, at)) {
    const box = boxOf(grid, cell);
    const frame = [x + box.left * across, y + box.top * down, (box.right - box.left) * across, (box.bottom - box.top) * down];
    painter.frame(frame[0] - 0.5, frame[1] - 0.5, frame[2] + 1, frame[3] + 1, "#000");
    painter.frame(frame[0] + 0.5, frame[1] + 0.5, frame[2] - 1, frame[3] - 1, "#fff");
  }
}

/** The chosen model's maps as they are shown, [heads, rows, columns] of each layer, and all weights of the chosen head. */
export function dataOf(app) {
  const arrays = {};
  const selection = app.selection();
  for (const layer of app.layers(app.state.model)) {
    if (!has(layer, selection)) continue;
    const maps = Array.from({ length: layer.heads }, (_, head) => app.map(layer, head));
    const { grid } = maps[0];
    arrays[layer.name] = { values: maps.flatMap(({ values }) => Array.from(values)), shape: [layer.heads, grid.height, grid.width] };
    if (layer.prefix) arrays[`${layer.name}/prefix`] = { values: maps.flatMap(({ prefix }) => Array.from(prefix)), shape: [layer.heads, layer.prefix] };
  }
  const { layer, head } = app.chosen();
  for (const mode of layer.modes) {
    const rows = Array.from({ length: layer.queries }, (_, query) => layer.row(mode, app.state.image, head, query, app.state.s));
    arrays[`chosen/${mode}`] = { values: rows.flatMap((row) => Array.from(row)), shape: [layer.queries, layer.keys] };
  }
  return arrays;
}

/** A blob of the view: "png", "svg" or "npz". */
export async function exported(app, kind) {
  if (kind === "npz") return new Blob([npz(dataOf(app))], { type: "application/zip" });
  const plan = layout(app);
  const painter = kind === "svg" ? svgPainter(plan.width, plan.height) : canvasPainter(plan.width, plan.height, 2);
  paint(painter, app, plan);
  return painter.blob();
}

/** What a file of the view is called: layer, head and image, in letters that every system takes. */
function fileName(app) {
  const { layer, head } = app.chosen();
  return `${layer.name}_head${head}_${app.imageName(app.state.image)}`.replace(/[^\p{L}\p{N}-]+/gu, "_").slice(0, 100);
}

/** Buttons that save the view. */
export function createExports(app) {
  const save = async (kind) => {
    const link = make("a", { href: URL.createObjectURL(await exported(app, kind)), download: `${fileName(app)}.${kind}` });
    link.click();
    URL.revokeObjectURL(link.href);
  };
  const kinds = [["png", "PNG"], ["svg", "SVG"], ["npz", "data (npz)"]];
  return make("div", { className: "buttons", role: "group", "aria-label": "Save the view" }, ...kinds.map(([kind, text]) => make("button", { type: "button", onclick: () => save(kind) }, text)));
}
