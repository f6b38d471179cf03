// A state with what a page does not have put right: an address may have been written by hand, or for another page.

import { METRICS } from "./metrics.js";
import { AVERAGES } from "./state.js";

/**
 * `known` has the page's `models` (layers by step), `size`, `hasPlaces`, `overlays` by name, the number of the `last`
 * image and the `middle`: the place where a page begins.
 */
export function putRight(given, known) {
  const model = bounded(given.model, known.models.length);
  const step = known.models[0].has(given.step) ? given.step : null;
  const layers = known.layers(model, step);
  const layer = layers.find(({ name }) => name === given.layer) ?? layers[0];
  const mode = layers.some(({ modes }) => modes.includes(given.mode)) ? given.mode : "probabilities";
  const at = placeIn(given.at, given.direction, layers, layer, known);
  const { height, width } = mapGrid(layer, { ...given, at });
  const overlays = known.hasPlaces ? ["head", ...known.overlays] : [];
  return {
    ...given, model, step, layer: layer.name, head: bounded(given.head, layer.heads), image: bounded(given.image, known.last + 1),
    mode, at,
    sort: METRICS.some(({ name }) => name === given.sort) ? given.sort : "layer",
    overlay: overlays.includes(given.overlay) ? given.overlay : "none",
    weight: given.weight !== null && given.weight < height * width ? given.weight : null,
    pins: given.pins.map((pin) => pinned(pin, known)).filter(Boolean).slice(0, 4),
  };
}

/** A pinned selection whose map the page has; null: it has none. */
function pinned(pin, known) {
  const { image, average, head, s } = pin;
  const whole = [image, head, pin.model].every(Number.isInteger) && s >= 0 && s <= 2 && AVERAGES.includes(average);
  if (!whole || pin.model >= known.models.length || !known.models[0].has(pin.step) || image > known.last) return null;
  const layers = known.layers(pin.model, pin.step);
  const layer = layers.find(({ name }) => name === pin.layer);
  if (!layer || head >= layer.heads || !layer.modes.includes(pin.mode)) return null;
  return { ...pin, at: placeIn(pin.at, pin.direction, layers, layer, known) };
}

/** A place in the picture, corners in order; a token where there are such; else where the page begins. */
function placeIn(at, direction, layers, layer, { size, hasPlaces, middle }) {
  if (at === "all") return at;
  if (at.token !== undefined) return layers.some(({ prefix }) => at.token < prefix) ? at : middle;
  const { height, width } = direction === "in" ? layer.keyGrid : layer.queryGrid;
  const [high, wide] = hasPlaces ? size : [height, width];
  const inside = at.map((value, i) => bounded(value, i % 2 ? wide : high));
  if (inside.length === 2) return inside;
  const [top, left, bottom, right] = inside;
  return [Math.min(top, bottom), Math.min(left, right), Math.max(top, bottom), Math.max(left, right)];
}

/** The grid of the map that a selection shows. */
function mapGrid(layer, { at, direction }) {
  return direction === "in" && at !== "all" ? layer.queryGrid : layer.keyGrid;
}

function bounded(value, count) {
  return Math.min(value, Math.max(count - 1, 0));
}
