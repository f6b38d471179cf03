// The picture on which one picks a pixel, a region, or a token; by pointer, finger or arrow keys.

import { drawCells, drawLines, drawOutlines, drawPicture, prepared } from "./cells.js";
import { LIT, scaleOf, short } from "./colours.js";
import { isTouched, make, placeIn } from "./dom.js";
import { cellAt } from "./geometry.js";
import { overlayName, prefixName, wordsOf } from "./names.js";
import { cellsOf } from "./selection.js";

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** The picture of an app; gives {element, update()}. */
export function createPicture(app) {
  const [height, width] = app.size;
  const canvas = make("canvas", {
    className: "picture", tabIndex: 0, role: "application",
    "aria-label": "The picture. Arrow keys move the pixel, with Shift by eight; R begins a region; A chooses all pixels.",
    "aria-describedby": "picture-help",
  });
  const help = make("p", { className: "muted small", id: "picture-help" },
    isTouched() ? "Tap a pixel, drag for a region." : "Hover to look, click to keep, drag for a region. Arrow keys move the pixel.");
  const element = make("div", { className: "picture-frame" }, canvas, help);
  let start = null;
  let corners = null; // of a region that arrow keys extend: where it began, and where it is now

  const pixelOf = (event) => {
    const [down, across] = placeIn(canvas, event);
    return [bounded(Math.floor(down * height), height), bounded(Math.floor(across * width), width)];
  };
  const meant = (pixel) => (start ? regionOf(start, pixel) : pixel);

  canvas.addEventListener("pointerdown", (event) => {
    start = pixelOf(event);
    corners = null;
    canvas.setPointerCapture(event.pointerId);
    app.preview(start);
  });
  canvas.addEventListener("pointermove", (event) => {
    const pixel = pixelOf(event);
    app.preview(meant(pixel));
    const text = said(pixel);
    if (text || app.pointed) app.point(text ? { grid: null, cell: null, event, text } : null);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (start) app.set({ at: meant(pixelOf(event)), weight: null });
    start = null;
  });
  canvas.addEventListener("pointercancel", () => { start = null; });
  canvas.addEventListener("pointerleave", () => {
    app.point(null);
    if (!start) app.preview(null);
  });
  canvas.addEventListener("keydown", (event) => {
    const from = Array.isArray(app.state.at) ? app.state.at.slice(0, 2) : [0, 0];
    if (event.key === "a" || event.key === "A") app.set({ at: "all", weight: null });
    if (event.key === "r" || event.key === "R") corners = corners ? null : [from, from];
    if (event.key === "Escape") corners = null;
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const by = event.shiftKey ? 8 : 1;
    const [first, last] = corners ?? [null, from];
    const to = [bounded(last[0] + by * step[0], height), bounded(last[1] + by * step[1], width)];
    if (corners) corners = [first, to];
    app.set({ at: corners ? regionOf(first, to) : to, weight: null });
  });

  function update() {
    const wide = element.clientWidth || 300;
    const across = Math.min(wide, (app.tallest() * width) / height);
    const surface = prepared(canvas, Math.floor(across), Math.floor((across * height) / width));
    const bytes = app.bytesOf(app.state.image);
    if (bytes) drawPicture(surface, bytes, height, width);
    else {
      surface.context.fillStyle = "#777";
      surface.context.fillRect(0, 0, surface.width, surface.height);
    }
    const chosen = app.chosen();
    if (!chosen) return;
    const overlay = app.overlay();
    if (overlay) {
      drawCells(surface, overlay.grid, overlay.values, scaleOf([overlay.values], overlay.signed), 0.72);
      drawLines(surface, overlay.grid, "rgba(255, 255, 255, 0.25)");
    }
    const selection = app.selection();
    const grid = selection.direction === "in" ? chosen.layer.keyGrid : chosen.layer.queryGrid;
    if (grid.image) drawLines(surface, grid, "rgba(255, 255, 255, 0.28)");
    drawOutlines(surface, grid, cellsOf(chosen.layer, grid, selection.at), 2.5, LIT);
    const pointed = app.pointed;
    if (pointed?.grid) drawOutlines(surface, pointed.grid, [pointed.cell], 1);
    canvas.title = "";
  }

  /** The overlay's value at a pixel, in words; "" where there is none. */
  function said(at) {
    const overlay = app.overlay();
    const cell = overlay && Array.isArray(at) ? cellAt(overlay.grid, at[0], at[1]) : null;
    return cell === null ? "" : `${overlayName(app)}: ${short(overlay.values[cell])}`;
  }

  return { element, update, said };
}

/** Tokens in place of a picture, each a button: queries, or keys where one asks who looks at them. */
export function createTokens(app) {
  const element = make("div", { className: "tokens", role: "group", "aria-label": "Tokens" });
  const layer = app.layers(0)[0];
  let shown = null;
  let buttons = [];

  function build(side) {
    shown = side;
    const { height, width } = side ? layer.keyGrid : layer.queryGrid;
    buttons = Array.from({ length: height * width }, (_, i) => {
      const at = [Math.floor(i / width), i % width];
      return make("button", {
        type: "button", className: "token", onclick: () => app.set({ at, weight: null }),
        onpointerenter: () => app.preview(at), onpointerleave: () => app.preview(null),
      }, wordsOf(app, side)?.[i] ?? String(i));
    });
    element.replaceChildren(...buttons);
  }

  function update() {
    const { at, direction } = app.selection();
    const side = direction === "in" && at !== "all" ? 1 : 0;
    if (side !== shown) build(side);
    const { width } = side ? layer.keyGrid : layer.queryGrid;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(Array.isArray(at) && at[0] * width + at[1] === i)));
  }
  return { element, update, said: () => "" };
}

/** Class and register tokens, which have no place in the picture, in a strip of their own; null: there are none. */
export function createPrefix(app) {
  const count = Math.max(...app.layers(0).map((layer) => layer.prefix));
  if (!count) return null;
  const buttons = Array.from({ length: count }, (_, token) => make("button", {
    type: "button", className: "token", onclick: () => app.set({ at: { token }, weight: null }),
  }, prefixName(token)));
  function update() {
    const { token } = app.state.at;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === token)));
  }
  const label = make("span", { className: "muted small" }, "Tokens without a place: ");
  return { element: make("div", { className: "tokens", role: "group", "aria-label": "Tokens without a place" }, label, ...buttons), update };
}

/** The rectangle between two pixels; of one pixel itself. */
function regionOf([row, column], [otherRow, otherColumn]) {
  if (row === otherRow && column === otherColumn) return [row, column];
  return [Math.min(row, otherRow), Math.min(column, otherColumn), Math.max(row, otherRow), Math.max(column, otherColumn)];
}

function bounded(value, size) {
  return Math.min(Math.max(value, 0), size - 1);
}
