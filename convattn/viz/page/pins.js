// Up to four selections kept side by side.

import { scaleOf } from "./colours.js";
import { meaning } from "./controls.js";
import { make } from "./dom.js";
import { modelName, placeName } from "./names.js";
import { has, isSigned, mapOf } from "./selection.js";
import { drawMap } from "./tiles.js";

const MOST = 4;
const KEPT = ["image", "average", "at", "direction", "model", "layer", "head", "mode", "s", "step"];

/** The pinned maps, and the button that adds one; gives {element, button, update()}. */
export function createPins(app) {
  const list = make("ul", { className: "pins" });
  const element = make("section", { "aria-label": "Pinned selections" }, make("h2", {}, "Pinned"), list);
  const button = make("button", { type: "button", onclick: pin }, "Pin this map");

  function pin() {
    const { state } = app;
    if (!state.layer || state.pins.length >= MOST) return;
    app.set({ pins: [...state.pins, Object.fromEntries(KEPT.map((name) => [name, state[name]]))] });
  }

  function card(pinned, i) {
    const layer = app.layers(pinned.model, pinned.step).find(({ name }) => name === pinned.layer);
    if (!layer || pinned.head >= layer.heads || !has(layer, pinned)) return null;
    const canvas = make("canvas", {});
    const selection = { ...pinned };
    const map = mapOf(layer, pinned.head, selection);
    drawMap(canvas, layer, map, scaleOf([map.values, map.prefix], isSigned(pinned.mode, pinned.average)), selection, 150);
    const words = `${app.models > 1 ? `${modelName(app, pinned.model)}; ` : ""}${pinned.layer}, head ${pinned.head}; ${app.imageName(pinned.image)}, ${placeName(app, pinned)}; ${meaning(selection)}`;
    return make("li", {}, make("button", { type: "button", className: "pinned", "aria-label": `Go back to ${words}`, onclick: () => app.set({ ...pinned, weight: null }) }, canvas),
      make("span", { className: "small" }, words),
      make("button", { type: "button", className: "small", "aria-label": `Remove pin ${i + 1}`, onclick: () => app.set({ pins: app.state.pins.filter((_, each) => each !== i) }) }, "remove"));
  }

  function update() {
    element.hidden = !app.state.pins.length;
    button.disabled = app.state.pins.length >= MOST;
    list.replaceChildren(...app.state.pins.map(card).filter(Boolean));
  }
  return { element, button, update };
}
