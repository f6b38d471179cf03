// The switches above the maps, and the colour bar that says what their colours mean.

import { prepared } from "./cells.js";
import { colourOf, cssColour, short } from "./colours.js";
import { buttonsOf, choiceOf, freshId, make } from "./dom.js";
import { METRICS } from "./metrics.js";
import { isSigned } from "./selection.js";

const MODE_NAMES = {
  probabilities: ["weights", "what the softmax gives"],
  logits: ["logits", "what the softmax sees: content + position"],
  content: ["content", "q · k / √d, from what query and key look like"],
  position: ["position", "the bias of the shift from query to key"],
  norm_weighted: ["× values", "weight times the length of the value that it moves"],
};

/** The switches; gives {element, update()}. */
export function createControls(app) {
  const has = new Set(app.layers(0).flatMap((layer) => layer.modes));
  const mode = buttonsOf("show", [...has].map((each) => [each, ...MODE_NAMES[each]]), (value) => app.set({ mode: value }));
  const average = buttonsOf("of", [
    ["one", "this image"], ["mean", "mean", "of all images"], ["difference", "difference", "this image minus the mean"],
  ], (value) => app.set({ average: value, weight: null }));
  const direction = buttonsOf("which way", [
    ["out", "it looks at", "what the pixel looks at"], ["in", "looks at it", "who looks at the pixel"], ["all", "all queries", "attention received from all"],
  ], (value) => app.set(value === "all" ? { at: "all", weight: null } : { direction: value, at: app.placed(), weight: null }));
  const scale = buttonsOf("colours", [["shared", "shared", "one scale for all maps"], ["each", "per map"]], (value) => app.set({ scale: value }));
  const sort = choiceOf("sorted by", [["layer", "layer"], ...METRICS.map(({ name, label }) => [name, label])], app.state.sort, (value) => app.set({ sort: value }));
  const element = make("div", { className: "controls" }, direction.element, mode.element,
    app.manifest.images.length > 1 ? average.element : null, scale.element, sort.element);
  const steps = timeline(app);
  if (steps) element.append(steps.element);
  function update() {
    mode.press(app.state.mode);
    average.press(app.state.average);
    direction.press(app.state.at === "all" ? "all" : app.state.direction);
    scale.press(app.state.scale);
    sort.select.value = app.state.sort;
    steps?.update();
  }
  return { element, update };
}

/** A slider over the states of the training that the page has; null where there are none. */
function timeline(app) {
  const steps = app.manifest.timeline.map(({ step }) => step);
  if (!steps.length) return null;
  const id = freshId("step");
  const input = make("input", {
    type: "range", id, min: 0, max: steps.length, step: 1,
    oninput: () => app.set({ step: steps[input.value] ?? null, weight: null }),
  });
  const output = make("output", { for: id });
  function update() {
    const at = steps.indexOf(app.state.step);
    input.value = at < 0 ? steps.length : at;
    output.textContent = at < 0 ? "the page's model" : `step ${steps[at].toLocaleString("en")}`;
    input.setAttribute("aria-valuetext", output.textContent);
  }
  return { element: make("div", { className: "field" }, make("label", { htmlFor: id }, "training"), input, output), update };
}

/** What a value of the maps is, in a sentence. */
export function meaning({ mode, average, at, direction }) {
  const what = {
    probabilities: "weight", logits: "logit", content: "content logit", position: "position logit",
    norm_weighted: "weight × length of the value",
  }[mode];
  const added = mode === "probabilities" || mode === "norm_weighted";
  const of = average === "mean" ? ", mean of all images" : average === "difference" ? ", this image minus the mean" : "";
  if (at === "all") {
    return added
      ? `${what} received from all queries together${of}: these numbers do not sum to one`
      : `${what}, mean over all queries${of}`;
  }
  const region = Array.isArray(at) && at.length === 4;
  if (direction === "in") return `${what} that each cell gives the ${region ? "region" : "outlined cell"}${of}`;
  const sums = mode === "probabilities" && average !== "difference" ? "; each map sums to one" : "";
  return `${what}${region ? ", mean over the region" : ""}${of}${sums}`;
}

/** The colours of a scale, from its lowest value to its highest. */
export function drawBar(canvas, scale) {
  const surface = prepared(canvas, 140, 12);
  for (let x = 0; x < surface.width; x++) {
    surface.context.fillStyle = cssColour(colourOf(scale, scale.low + ((scale.high - scale.low) * x) / (surface.width - 1)));
    surface.context.fillRect(x, 0, 1, surface.height);
  }
}

/** The colour bar; gives {element, update(scale, selection)}: a scale of null means that each map has its own. */
export function createLegend() {
  const canvas = make("canvas", { "aria-hidden": "true" });
  const low = make("span", {});
  const high = make("span", {});
  const text = make("span", { className: "muted" });
  const element = make("div", { className: "legend" }, low, canvas, high, text);
  function update(scale, selection) {
    const kind = isSigned(selection.mode, selection.average) ? "diverging" : "sequential";
    drawBar(canvas, { low: kind === "diverging" ? -1 : 0, high: 1, kind });
    low.textContent = scale ? short(scale.low) : kind === "diverging" ? "−" : "0";
    high.textContent = scale ? short(scale.high) : "each map's own largest";
    text.textContent = meaning(selection);
  }
  return { element, update };
}
