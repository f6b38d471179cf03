// What a layer attends to, a row of weights at a time: stored arrays, and what follows from them.
//
// Of "logits = content + position", "probabilities = softmax(logits)" and "norm_weighted = probabilities * norms" the
// page holds what does not follow from the rest (packed_layers.py).

import { unpack } from "./unpack.js";

export const MODES = ["probabilities", "logits", "content", "position", "norm_weighted"];

/** exp(z) / sum exp(z), with 0 where z is -inf. */
export function softmax(logits) {
  let highest = -Infinity;
  for (const each of logits) if (each > highest) highest = each;
  const weights = new Float32Array(logits.length);
  if (highest === -Infinity) return weights;
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += weights[i] = Math.exp(logits[i] - highest);
  for (let i = 0; i < logits.length; i++) weights[i] /= total;
  return weights;
}

/** A layer of the page's data, with functions for its numbers. */
export function createLayer(description) {
  const { name, num_heads: heads, num_images: images, prefix_tokens: prefix } = description;
  const queryGrid = description.query_grid;
  const keyGrid = description.key_grid;
  const queries = prefix + queryGrid.height * queryGrid.width;
  const keyCells = description.key_cells ? unpack(description.key_cells).exact() : null;
  const keys = prefix + (keyCells ? description.key_cells.shape[1] : keyGrid.height * keyGrid.width);
  const arrays = {};
  for (const [mode, blob] of Object.entries(description.arrays)) arrays[mode] = unpack(blob);
  let live = null;

  /** Values of one query; `image` is the number of an image, and the one after the last is that of the live model. */
  function stored(mode, image, head, query) {
    const from = image === images ? live : arrays;
    const array = from?.[mode];
    if (!array) return null;
    const length = mode === "norms" ? keys : queries * keys;
    const example = array.shape[0] === 1 ? 0 : image;
    const start = (example * heads + head) * length + (mode === "norms" ? 0 : query * keys);
    return array.floats(start, start + keys);
  }

  function logits(image, head, query, s) {
    const whole = s === 1 ? stored("logits", image, head, query) : null;
    if (whole) return whole;
    const content = stored("content", image, head, query);
    const position = stored("position", image, head, query);
    if (!content || !position) return content ?? position ?? stored("logits", image, head, query);
    // What is masked stays so: 0 * -inf is nan.
    for (let i = 0; i < content.length; i++) content[i] += s === 0 ? 0 : s * position[i];
    return content;
  }

  /** float [keys] of one mode; `s` is how often the position counts, where the layer `splits`. */
  function row(mode, image, head, query, s = 1) {
    if (!splits) s = 1;
    if (mode === "logits") return logits(image, head, query, s);
    if (mode === "probabilities") {
      const given = s === 1 ? stored("probabilities", image, head, query) : null;
      return given ?? softmax(logits(image, head, query, s));
    }
    if (mode === "norm_weighted") {
      const given = stored("norm_weighted", image, head, query);
      if (given && s === 1) return given;
      const weights = row("probabilities", image, head, query, s);
      if (given) {
        const before = row("probabilities", image, head, query);
        return weights.map((each, i) => before[i] > 0 ? (given[i] / before[i]) * each : 0);
      }
      const norms = stored("norms", image, head, query);
      return weights.map((each, i) => each * norms[i]);
    }
    return stored(mode, image, head, query);
  }

  /** Whether the probabilities are softmax(content + position), of two parts. */
  const splits = Boolean(arrays.content && arrays.position && !arrays.probabilities);

  return {
    kept: new Map(), description, name, heads, images, prefix, queryGrid, keyGrid, queries, keys, keyCells, splits, row,
    modes: description.modes,
    metrics: (head) => description.heads[head] ?? {},
    norm: (image, head, query, key) => {
      const norms = stored("norms", image, head, query);
      if (norms) return norms[key];
      const product = stored("norm_weighted", image, head, query);
      return product ? product[key] / row("probabilities", image, head, query)[key] : null;
    },
    /** Arrays of the model in the page: Float32Array [heads, q, k] of some modes, "norms" [heads, k]; null: none. */
    setLive(found) {
      this.kept.clear();
      live = found && Object.fromEntries(Object.entries(found).map(([mode, values]) => [mode, {
        shape: [1], floats: (start, end) => values.slice(start, end),
      }]));
    },
    hasImage: (image) => image < images || live !== null,
  };
}
