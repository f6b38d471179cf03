// The model in the page, as one of its parts: what one draws becomes an image more, and every map follows.

import { drawCells, drawLines, drawOutlines, prepared } from "./cells.js";
import { scaleOf } from "./colours.js";
import { make } from "./dom.js";
import { extent } from "./geometry.js";
import { button } from "./live_parts.js";
import { livePanel } from "./live_panel.js";
import { whose } from "./names.js";
import { cellsOf, isSigned, mapOf } from "./selection.js";
import { floats } from "./unpack.js";

/** How wide a head's map is here, in pixels of the page. */
const TILE = 56;

/** The section of an app's model; gives {element, update()}; null: the page was given no model. */
export function createLive(app) {
  const description = app.manifest.model;
  if (!description) return null;
  const heading = make("h2", {}, `Try it: draw, hide, switch off${whose(app, 0)}`);
  const label = { className: "live-section", "aria-label": "The model itself" };
  if (description.lacks) {
    return { element: make("section", label, heading, make("p", {}, description.lacks)), update: () => {} };
  }
  const [height, width] = description.image_shape;
  const count = app.manifest.images.length;
  let example = Math.min(app.state.image, count - 1);
  let changed = false;
  let pointed = null;

  /** An image as the model takes it; black where the page has none of this size. */
  function bytesOf(image) {
    const bytes = image < count && app.bytesOf(image);
    return bytes?.length === height * width * 3 ? bytes : new Uint8Array(height * width * 3);
  }

  /** Maps of what is in the data stay as they are stored. */
  function onResult(result) {
    changed = result.changed;
    if (changed) app.setLive(result, example);
    else if (app.state.image === count) app.set({ image: example });
    else app.redraw();
    if (pointed) app.preview(pointed);
  }

  /** While one draws, maps are of the pixel where one is. */
  function point(pixel) {
    pointed = pixel;
    app.preview(pixel);
  }

  /** What a head makes of the picture that is drawn here: the same map as above. */
  function drawHead(canvas, name, head) {
    const layer = app.layers(0, null).find((each) => each.name === name);
    const selection = { ...app.selection(), average: "one", image: changed ? count : example };
    if (!layer?.modes.includes(selection.mode)) return;
    const map = mapOf(layer, head, selection);
    const [down, across] = extent(map.grid);
    const surface = prepared(canvas, TILE, (TILE * down) / across);
    drawCells(surface, map.grid, map.values, scaleOf([map.values], isSigned(selection.mode, "one")));
    drawLines(surface, map.grid, "rgba(128, 128, 128, 0.35)", 4);
    const asked = selection.direction === "in" ? layer.keyGrid : layer.queryGrid;
    if (asked.image) drawOutlines(surface, asked, cellsOf(layer, asked, selection.at), 1);
  }

  const panel = livePanel({
    description, floats, bytes: bytesOf(example), nameOf: app.className, onResult, drawHead, point,
  });
  const other = button("", () => start(app.state.image));
  const show = () => app.set({ image: count, average: "one", step: null });
  const back = button("show what is drawn here in the maps", show);
  const line = make("p", { className: "live-other" }, other, back);
  const text = make("p", { className: "muted small" },
    "The weights are in this page, and what you change is computed here: maps, their numbers and logits follow. It is not in the address: that stays the one of the image you began with.");

  function start(image) {
    example = image;
    panel.show(bytesOf(example));
  }

  function update() {
    const { image } = app.state;
    // What nobody has drawn on follows the image that is chosen above.
    if (image < count && image !== example && !panel.changed()) start(image);
    panel.drawHeads();
    const elsewhere = image < count && panel.changed();
    other.hidden = !elsewhere;
    back.hidden = !elsewhere;
    other.textContent = `begin anew with ${app.imageName(image)}`;
  }
  return { element: make("section", label, heading, text, line, panel.element), update };
}
