// Small pieces that the panel of the live model is put together from.

import { colourOf, scaleOf } from "./colours.js";
import { make } from "./dom.js";

/** A button. */
export function button(label, onclick, properties = {}) {
  return make("button", { type: "button", onclick, ...properties }, label);
}

/** A button that is on or off, and says so. */
export function toggle(label, pressed, onclick, properties = {}) {
  return button(label, onclick, { "aria-pressed": String(pressed), ...properties });
}

/** Whether a toggle is on. */
export function setPressed(element, pressed) {
  element.setAttribute("aria-pressed", String(pressed));
}

/** A share of one, in percent. */
export function percent(share) {
  return share > 0.999 && share < 1 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`;
}

/** A canvas with a pixel for each of numbers [rows * columns], blue below 0, orange above; its style makes it large. */
export function signedCanvas(values, rows, columns, scale = scaleOf([values], true)) {
  const canvas = make("canvas", { width: columns, height: rows, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  values.forEach((value, at) => image.data.set([...colourOf(scale, value), 255], 4 * at));
  context.putImageData(image, 0, 0);
  return canvas;
}
