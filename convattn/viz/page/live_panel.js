// The panel of the model in the page: one draws, drops in a picture, switches parts off, and everything follows.

import { make } from "./dom.js";
import { softmax } from "./layers.js";
import { drawingCanvas } from "./live_canvas.js";
import { classBars, classMapView } from "./live_classes.js";
import { Drawing } from "./live_drawing.js";
import { button } from "./live_parts.js";
import { switches, switchable } from "./live_switches.js";
import { inkOf, pictureInput, toolbar } from "./live_tools.js";
import { createModel, normalized } from "./model.js";

/** Milliseconds of a forward pass that one would notice at every stroke, and of a pause between strokes. */
const SLOW = 150;
const PAUSE = 300;

/**
 * The panel of a model: {element, show(bytes), changed(), drawHeads()}; `show` begins anew with another picture,
 * `changed` tells whether anything differs from how that one began.
 *
 * - description: the model as page_model.py writes it; floats: makes a Float32Array of a blob.
 * - bytes: the picture to begin with, [height * width * 3].
 * - nameOf: (label) -> what a class is called.
 * - onResult: called with {logits, probabilities, features, layers, bytes, changed, heads, replaced} after each forward
 *   pass: what model.js gives, probabilities [classes], the picture's bytes [height * width * 3], the scale of each head,
 *   and whether the picture is another one than that it began as.
 * - drawHead: (canvas, layer, head) draws what a head looks at; called by drawHeads().
 * - point: called with the pixel [row, column] that one is at, null: none.
 */
export function livePanel({ description, floats, bytes: first, nameOf, onResult, drawHead, point }) {
  const [height, width, channels] = description.image_shape;
  const model = createModel(description, floats);
  const attending = switchable(description).heads;
  const block = attending.reduce((most, { stride }) => (stride[0] > most[0] ? stride : most), [1, 1]);
  const drawing = new Drawing({ height, width, channels, block });
  const status = make("p", { className: "muted small live-status", role: "status" });
  const spoken = make("p", { className: "unseen live-spoken", role: "status" });
  const say = (text) => { spoken.textContent = text; };
  const canvas = drawingCanvas(drawing, { onchange: () => later(), say, point });
  const parts = switches(description, floats, drawHead, () => later());
  const bars = classBars(nameOf, () => showMap());
  const map = classMapView();
  let before = null;
  let result = null;
  let waiting = null;
  const times = [];

  /** Many changes before the next frame are one forward pass; of a slow model, all until one pauses. */
  function later() {
    // The first passes are slow everywhere: the browser has not compiled them.
    const slow = times.length > 2 && Math.min(...times) > SLOW;
    if (slow) clearTimeout(waiting);
    else if (waiting !== null) return;
    waiting = slow ? setTimeout(compute, PAUSE) : requestAnimationFrame(compute);
  }

  function compute() {
    waiting = null;
    const started = performance.now();
    const pixels = normalized(drawing.bytes, description.preprocessing);
    const hidden = drawing.hiddenPixels ? drawing.hidden : null;
    const run = model.forward(pixels, { ...parts.scales, hidden });
    const probabilities = description.num_classes ? softmax(run.logits) : new Float32Array(0);
    const took = performance.now() - started;
    times.splice(0, times.length - 4);
    times.push(took);
    const told = differences();
    const changed = told.length > 0;
    if (!changed || !before) before = probabilities;
    result = { ...run, probabilities, bytes: coloured(), changed, heads: structuredClone(parts.scales.heads), replaced: drawing.replaced };
    const milliseconds = Math.max(1, Math.round(took));
    status.textContent = `${told.join(", ") || "As in the data"}. Computed here in ${milliseconds} ms.`;
    if (description.num_classes) {
      bars.update(run.logits, probabilities, before);
      showMap();
    }
    onResult(result);
  }

  /** What differs from how the picture began, in words. */
  function differences() {
    const off = parts.off();
    const counts = [
      [drawing.changedPixels, "pixel", "changed"], [drawing.hiddenPixels, "pixel", "hidden from attention"],
      [off.heads, "head", "off"], [off.kernels, "kernel", "off"],
    ].filter(([count]) => count);
    return counts.map(([count, word, what]) => `${count} ${word}${count > 1 ? "s" : ""} ${what}`);
  }

  function showMap() {
    if (!result) return;
    const label = bars.chosen();
    const found = model.classMap(result.features, label);
    map.update(found, description.classifier.grid, nameOf(label), result.logits[label]);
  }

  /** The picture as bytes of three channels, as the page shows its pictures. */
  function coloured() {
    if (channels === 3) return drawing.bytes.slice();
    return Uint8ClampedArray.from({ length: height * width * 3 }, (_, at) => drawing.bytes[Math.floor(at / 3)]);
  }

  function show(bytes) {
    drawing.start(channels === 3 ? bytes : bytes.filter((_, at) => at % 3 === 0));
    drawing.inks.fill = description.preprocessing.mean.map((mean) => Math.round(255 * mean));
    ink.update();
    parts.reset();
    before = null;
    canvas.draw();
    later();
  }

  const changed = () => { canvas.draw(); later(); };
  const ink = inkOf(drawing);
  const picture = pictureInput({ drawing, description, changed, status });
  function restart() {
    drawing.begin();
    Object.assign(drawing, { bytes: drawing.original.slice(), hidden: new Uint8Array(height * width), replaced: false });
    parts.reset();
    changed();
  }
  const tools = toolbar({ drawing, canvas, ink, changed, restart, attends: attending.length > 0, width });
  const notes = description.notes.map((note) => make("p", { className: "muted small" }, note));
  const said = description.num_classes ? [make("h3", {}, "What the model says"), bars.element, map.element] : [];
  const element = make("div", { className: "live" },
    make("div", { className: "live-left" }, canvas.element, tools, status, spoken, picture.element, ...notes),
    make("div", { className: "live-right" }, ...said, parts.element),
  );
  picture.acceptDropsOn(element);
  show(first);
  return { element, show, changed: () => differences().length > 0, drawHeads: parts.drawHeads };
}
