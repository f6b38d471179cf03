// The panel of the live model: one draws, drops in a picture, switches parts off, and everything follows.

import { createModel, normalized } from "./model.js";
import { softmax } from "./model_ops.js";
import { Drawing } from "./live_drawing.js";
import { drawingCanvas } from "./live_canvas.js";
import { classBars, classMapView } from "./live_classes.js";
import { decoded, modelBytes } from "./live_picture.js";
import { buttonsOf, freshId, make } from "./dom.js";
import { button } from "./live_parts.js";
import { switches, switchable } from "./live_switches.js";

/**
 * The panel for a model, or a sentence in its place where the page has none.
 *
 * - description: the page's model, as page_model.py writes it; floats: makes a Float32Array of a blob.
 * - example: the picture to begin with, bytes [height * width * 3], and its name.
 * - classNames: of the logits; a number for those that have none.
 * - onResult: called with {logits, probabilities, features, layers, classMap, bytes, changed} after each forward pass, as
 *   model.js describes them; `bytes` [height * width * 3] are the picture's, `changed` is false where it is the example
 *   and nothing is switched off or hidden.
 *
 * Gives {element, show(example)}: `show` begins anew with another picture.
 */
export function livePanel({ description, floats, example, classNames, onResult }) {
  if (description.lacks) return { element: make("p", { className: "live-note" }, description.lacks), show: () => {} };
  const [height, width, channels] = description.image_shape;
  const model = createModel(description, floats);
  const attending = switchable(description).heads;
  const block = attending.reduce((most, { stride }) => (stride[0] > most[0] ? stride : most), [1, 1]);
  const drawing = new Drawing({ height, width, channels, block });
  const status = make("p", { className: "live-note", role: "status" });
  const spoken = make("p", { className: "live-unseen", role: "status" });
  const say = (text) => { spoken.textContent = text; };
  const canvas = drawingCanvas(drawing, { onchange: () => later(), say });
  const parts = switches(description, floats, () => later());
  const bars = classBars(classNames || [], () => showMap());
  const map = classMapView();
  let before = null;
  let result = null;
  let waiting = false;

  /** Many changes before the next frame are one forward pass. */
  function later() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      compute();
    });
  }

  function compute() {
    const started = performance.now();
    const pixels = normalized(drawing.bytes, description.preprocessing);
    const hidden = drawing.hiddenPixels ? drawing.hidden : null;
    const run = model.forward(pixels, { ...parts.scales, hidden });
    const probabilities = softmax(run.logits);
    const took = performance.now() - started;
    const off = parts.off();
    const counts = [
      [drawing.changedPixels, "pixel", "changed"], [drawing.hiddenPixels, "pixel", "hidden from attention"],
      [off.heads, "head", "off"], [off.kernels, "kernel", "off"],
    ].filter(([count]) => count);
    const told = counts.map(([count, word, what]) => `${count} ${word}${count > 1 ? "s" : ""} ${what}`);
    const changed = counts.length > 0;
    if (!changed || !before) before = probabilities;
    result = { ...run, probabilities, classMap: (label) => model.classMap(run.features, label), bytes: coloured(), changed };
    status.textContent = `${told.join(", ") || "As in the example"}. Computed here in ${Math.max(1, Math.round(took))} ms.`;
    bars.update(run.logits, probabilities, before);
    if (bars.chosen() === null) bars.choose(probabilities.indexOf(Math.max(...probabilities)));
    showMap();
    onResult(result);
  }

  function showMap() {
    if (!result || bars.chosen() === null) return;
    const label = bars.chosen();
    const name = (classNames || [])[label] ?? `class ${label}`;
    map.update(result.classMap(label), description.classifier.grid, name, result.logits[label]);
  }

  /** The picture as bytes of three channels, as the page shows its pictures. */
  function coloured() {
    if (channels === 3) return drawing.bytes.slice();
    return Uint8ClampedArray.from({ length: height * width * 3 }, (_, at) => drawing.bytes[Math.floor(at / 3)]);
  }

  function show({ bytes }) {
    drawing.start(channels === 3 ? bytes : bytes.filter((_, at) => at % 3 === 0));
    drawing.inks.fill = description.preprocessing.mean.map((mean) => Math.round(255 * mean));
    ink.update();
    parts.reset();
    before = null;
    canvas.draw();
    compute();
  }

  const changed = () => { canvas.draw(); later(); };
  const ink = inkOf(drawing);
  const tools = toolbar({ drawing, canvas, ink, changed, attends: attending.length > 0, width });
  const picture = pictureInput({ drawing, description, changed, status });
  const restart = button("back to the example", () => {
    drawing.begin();
    Object.assign(drawing, { bytes: drawing.original.slice(), hidden: new Uint8Array(height * width) });
    parts.reset();
    changed();
  });
  const notes = (description.notes || []).map((note) => make("p", { className: "live-note" }, note));
  const element = make("div", { className: "live" },
    make("div", { className: "live-left" }, canvas.element, tools, picture.element, restart, status, spoken, ...notes),
    make("div", { className: "live-right" },
      make("h3", {}, "What the model says"), bars.element, map.element, parts.element),
  );
  picture.acceptDropsOn(element);
  show(example);
  return { element, show };
}

/** Tools, brush and ink, undo and clear. */
function toolbar({ drawing, canvas, ink, changed, attends, width }) {
  const tools = [
    ["pen", "pen", "paints with the ink"], ["eraser", "eraser", "paints the picture's background"],
    ["fill", "grey out", "paints the mean of the training data"],
  ];
  if (attends) {
    tools.push(["hide", "hide", "no query attends to these cells, at any layer"], ["show", "show", "attention sees them again"]);
  }
  const tool = buttonsOf("tool", tools, (chosen) => { canvas.tool = chosen; tool.press(chosen); });
  const sizes = [1, 2, 3, 5].map((size) => [size, String(size), size > 1 ? `${size} pixels` : "one pixel"]);
  const size = buttonsOf("brush", sizes, (chosen) => { canvas.size = chosen; size.press(chosen); });
  canvas.size = width < 16 ? 1 : 2;
  tool.press(canvas.tool);
  size.press(canvas.size);
  return make("div", { className: "live-tools" }, tool.element, size.element, ink.element,
    button("undo", () => { drawing.undo(); changed(); }),
    button("clear", () => { drawing.clear(); changed(); }),
  );
}

/** What the pen paints: a grey, or a colour; {element, update}. */
function inkOf(drawing) {
  const id = freshId("ink");
  const colour = drawing.channels === 3;
  const input = make("input", { id, type: colour ? "color" : "range", ...(colour ? {} : { min: 0, max: 255 }) });
  input.addEventListener("input", () => {
    drawing.inks.pen = colour ? [1, 3, 5].map((at) => parseInt(input.value.slice(at, at + 2), 16)) : [Number(input.value)];
  });
  function update() {
    const { pen } = drawing.inks;
    input.value = colour ? `#${pen.map((byte) => byte.toString(16).padStart(2, "0")).join("")}` : pen[0];
  }
  return { element: make("div", { className: "field" }, make("label", { htmlFor: id }, "ink"), input), update };
}

/** A picture of one's own, by a file or dropped: made the model's size as the model's pictures are. */
function pictureInput({ drawing, description, changed, status }) {
  const [height, width, channels] = description.image_shape;
  const input = make("input", { type: "file", accept: "image/*" });
  const hint = `It becomes ${height} × ${width} pixels${channels === 1 ? ", grey" : ""}; it stays on this computer.`;
  const element = make("label", { className: "live-file" }, "a picture of your own, or drop one here ", input, make("small", {}, hint));

  async function take(file) {
    try {
      drawing.replace(modelBytes(await decoded(file), description.preprocessing));
      changed();
    } catch (error) {
      status.textContent = error.message;
    }
  }
  input.addEventListener("change", () => input.files[0] && take(input.files[0]));

  function acceptDropsOn(target) {
    target.addEventListener("dragover", (event) => {
      event.preventDefault();
      target.classList.add("live-dropping");
    });
    target.addEventListener("dragleave", () => target.classList.remove("live-dropping"));
    target.addEventListener("drop", (event) => {
      event.preventDefault();
      target.classList.remove("live-dropping");
      const file = event.dataTransfer.files[0];
      if (file) take(file);
    });
  }
  return { element, acceptDropsOn };
}
