// The worked example that a first-time visitor sees: sentences whose underlined words show what they mean.

import { isTouched, make } from "./dom.js";

const SHOWN = { average: "one", direction: "out", mode: "probabilities", s: 1, step: null, model: 0 };

/** The example of the page's data; gives {element, update()}; null: none. `targets(target)` are elements to light up. */
export function createStory(app, targets) {
  const { story } = app.manifest;
  if (!story) return null;
  const sentences = story.sentences.map((parts) => make("p", {}, ...parts.map((part) => (typeof part === "string" ? part : word(part)))));

  function word({ text, target }) {
    const cell = target.cell ?? null;
    const light = (on) => {
      if (cell === null) targets(target).forEach((element) => element.classList.toggle("lit", on));
      else app.light(on ? { layer: target.layer, head: target.head, cell } : null, on ? story.at : null);
    };
    return make("button", {
      type: "button", className: "word", title: cell === null ? "" : `the ${text}`, onpointerenter: () => light(true), onpointerleave: () => light(false),
      onfocus: () => light(true), onblur: () => light(false), onclick: () => show(target, cell),
    }, text);
  }

  /** Back to the example, with what a word means chosen. */
  function show(target, cell) {
    const patch = { ...SHOWN, image: story.image, at: story.at, weight: cell };
    if (target.layer) Object.assign(patch, { layer: target.layer, head: target.head });
    app.set(patch);
    const [first] = targets(target);
    first?.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }
  const hint = make("span", {}, ` · what is shown now is something else; ${isTouched() ? "tap" : "click"} an underlined word to come back`);
  const heading = make("h2", { className: "small" }, "An example to begin with", hint);

  /** Says so where the maps are no longer those that the sentences are about. */
  function update() {
    const { state } = app;
    const same = state.image === story.image && String(state.at) === String(story.at);
    hint.hidden = same && Object.entries(SHOWN).every(([name, value]) => state[name] === value);
  }
  return { element: make("section", { className: "story", "aria-label": "An example" }, heading, ...sentences), update };
}
