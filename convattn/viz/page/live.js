// The model in the page, as one of its parts: what one draws becomes an image more, and every map follows.

import { make } from "./dom.js";
import { button } from "./live_parts.js";
import { livePanel } from "./live_panel.js";
import { floats } from "./unpack.js";

/** The section of an app's model; gives {element, update()}; null: the page was given no model. */
export function createLive(app) {
  const description = app.manifest.model;
  if (!description) return null;
  const heading = make("h2", {}, "Try it: draw, hide, switch off");
  const label = { className: "live-section", "aria-label": "The model itself" };
  if (description.lacks) {
    return { element: make("section", label, heading, make("p", {}, description.lacks)), update: () => {} };
  }
  const [height, width] = description.image_shape;
  const count = app.manifest.images.length;
  let example = Math.min(app.state.image, count - 1);

  /** An image as the model takes it; black where the page has none of this size. */
  function bytesOf(image) {
    const bytes = image < count && app.bytesOf(image);
    return bytes?.length === height * width * 3 ? bytes : new Uint8Array(height * width * 3);
  }

  /** Maps of what is in the data stay as they are stored. */
  function onResult(result) {
    if (result.changed) app.setLive(result);
    else if (app.state.image === count) app.set({ image: example });
  }

  const panel = livePanel({ description, floats, bytes: bytesOf(example), nameOf: app.className, onResult });
  const other = button("", () => start(app.state.image));
  const back = button("show what is drawn here in the maps", () => app.set({ image: count, average: "one", step: null }));
  const line = make("p", { className: "live-other" }, other, back);
  const text = make("p", { className: "muted small" },
    "The weights are in this page, and what you change is computed here: the maps above, their numbers and the logits follow.");

  function start(image) {
    example = image;
    panel.show(bytesOf(example));
  }

  function update() {
    const { image } = app.state;
    // What nobody has drawn on follows the image that is chosen above.
    if (image < count && image !== example && !panel.changed()) start(image);
    const elsewhere = image < count && panel.changed();
    other.hidden = !elsewhere;
    back.hidden = !elsewhere;
    other.textContent = `begin anew with ${app.imageName(image)}`;
  }
  return { element: make("section", label, heading, text, line, panel.element), update };
}
