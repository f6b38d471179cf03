// Switches for every head and every kernel of the model: what is off has no part in the forward pass.

import { scaleOf } from "./colours.js";
import { isTouched, make } from "./dom.js";
import { button, setPressed, signedCanvas, toggle } from "./live_parts.js";

const HEADS = `Heads: what they look at from the pixel you are at; a ${isTouched() ? "tap" : "click"} switches one off`;

/** Buttons for the parts of one layer, with what `marks(at)` gives in them. */
function layerSwitches({ name, count, word, marks }, scales, onchange) {
  const number = (at) => `${word} ${at} of ${name}`;
  const buttons = Array.from({ length: count }, (_, at) =>
    toggle(marks(at), scales[at] !== 0, () => set([at], scales[at] === 0), {
      className: `live-${word}`,
      "aria-label": number(at),
      title: number(at),
    }),
  );
  const all = toggle("all", scales.every((scale) => scale), () => set([...scales.keys()], scales.includes(0)), {
    "aria-label": `all ${word}s of ${name}`,
  });

  function set(which, on) {
    for (const at of which) scales[at] = on ? 1 : 0;
    refresh();
    onchange();
  }
  function refresh() {
    buttons.forEach((each, at) => setPressed(each, scales[at] !== 0));
    setPressed(all, !scales.includes(0));
  }
  const element = make("div", { className: "live-parts", role: "group", "aria-label": name }, all, ...buttons);
  return { element, refresh };
}

/** Each kernel of a layer as a small picture: its taps, or over the input channels their length. */
function kernelMarks({ kernel, window, across }, floats) {
  const values = floats(kernel);
  const columns = kernel.shape[kernel.shape.length - 1];
  const rows = values.length / columns / (window * across);
  const scale = scaleOf([values], true);
  return (at) => {
    const taps = Array.from({ length: window * across }, (_, tap) => {
      if (rows === 1) return values[tap * columns + at];
      let sum = 0;
      for (let channel = 0; channel < rows; channel++) sum += values[(tap * rows + channel) * columns + at] ** 2;
      return Math.sqrt(sum / rows);
    });
    return signedCanvas(taps, window, across, scale);
  };
}

/** The layers of a description whose parts can be switched: {heads, kernels}, each {name, count, ...}. */
export function switchable(description) {
  const found = { heads: [], kernels: [] };
  const walk = (steps) => {
    for (const step of steps) {
      const { kind, name, window } = step;
      if (kind === "attention") found.heads.push({ name, count: step.heads, stride: step.stride });
      if (kind === "conv" || kind === "depthwise") found.kernels.push(kernelsOf(step, window, window));
      for (const layer of step.layers ?? []) {
        found.kernels.push(kernelsOf({ ...layer.conv, name: layer.name }, 1, layer.taps));
      }
      walk(step.shortcut ?? []);
      walk(step.branch ?? []);
    }
  };
  walk(description.steps);
  return found;
}

function kernelsOf({ name, kernel, columns }, window, across) {
  return { name, count: columns, kernel, window, across };
}

/**
 * {element, scales, off, reset, drawHeads}: `scales` as model.forward takes them, {heads, kernels}; off() counts those
 * that are 0. `drawHead(canvas, layer, head)` draws a head's map; kernels are drawn when they are first looked at.
 */
export function switches(description, floats, drawHead, onchange) {
  const layers = switchable(description);
  const scales = { heads: {}, kernels: {} };
  const rows = [];
  const maps = [];
  for (const kind of ["heads", "kernels"]) {
    for (const { name, count } of layers[kind]) scales[kind][name] = Array.from({ length: count }, () => 1);
  }
  const show = (kind, layer, marks) => {
    const word = kind === "heads" ? "head" : "kernel";
    const row = layerSwitches({ ...layer, word, marks }, scales[kind][layer.name], onchange);
    rows.push(row);
    return row.element;
  };
  const headMark = (name) => (head) => {
    const canvas = make("canvas", { "aria-hidden": "true" });
    maps.push({ canvas, name, head });
    return make("span", {}, canvas, String(head));
  };
  const heads = layers.heads.map((layer) =>
    make("div", { className: "live-layer" }, make("span", {}, layer.name), show("heads", layer, headMark(layer.name))),
  );
  const kernels = layers.kernels.map((layer) => {
    const details = make("details", {}, make("summary", {}, `${layer.name}: ${layer.count} kernels`));
    details.addEventListener("toggle", () => {
      if (!details.open || details.childElementCount > 1) return;
      details.append(show("kernels", layer, kernelMarks(layer, floats)));
    });
    return details;
  });

  function refresh() {
    for (const row of rows) row.refresh();
  }
  function reset() {
    for (const each of Object.values({ ...scales.heads, ...scales.kernels })) each.fill(1);
    refresh();
  }
  const off = () => Object.fromEntries(
    Object.entries(scales).map(([kind, each]) => [kind, Object.values(each).flat().filter((scale) => !scale).length]),
  );
  const allOn = button("all on", () => { reset(); onchange(); });
  const element = make("div", { className: "live-switches" },
    heads.length ? make("h3", {}, HEADS) : null, ...heads,
    kernels.length ? make("h3", {}, "Switch kernels off") : null, ...kernels, allOn,
  );
  const drawHeads = () => maps.forEach(({ canvas, name, head }) => drawHead(canvas, name, head));
  return { element, scales, off, reset, drawHeads };
}
