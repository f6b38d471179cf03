// The worked example that a first-time visitor sees: sentences whose underlined words show what they mean.

import { make } from "./dom.js";

/** The example of the page's data; gives {element}; null: there is none. `targets(target)` are elements to light up. */
export function createStory(app, targets) {
  const { story } = app.manifest;
  if (!story) return null;
  const sentences = story.sentences.map((parts) => make("p", {}, ...parts.map((part) => (typeof part === "string" ? part : word(part)))));

  function word({ text, target }) {
    const light = (on) => targets(target).forEach((element) => element.classList.toggle("lit", on));
    return make("button", {
      type: "button", className: "word", onpointerenter: () => light(true), onpointerleave: () => light(false),
      onfocus: () => light(true), onblur: () => light(false), onclick: () => show(target),
    }, text);
  }

  /** Back to the example, with what a word means chosen. */
  function show(target) {
    const patch = { image: story.image, average: "one", at: story.at, direction: "out", mode: "probabilities", s: 1, step: null, weight: null, model: 0 };
    if (target.layer) Object.assign(patch, { layer: target.layer, head: target.head });
    app.set(patch);
    const [first] = targets(target);
    first?.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }
  const heading = make("h2", { className: "small" }, "An example to begin with");
  return { element: make("section", { className: "story", "aria-label": "An example" }, heading, ...sentences) };
}
