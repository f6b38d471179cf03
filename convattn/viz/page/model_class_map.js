// What each cell of the last grid adds to a logit.
//
// The classifier is a mean, a norm and a dense layer, in the one or the other order. With the norm's factor taken as it
// is for this image, the logit is linear in the cells: their contributions and the bias sum to it. Behind a tanh it is
// not: there a hidden unit z counts with tanh(z) / z of this image, and what comes out is an approximation.

import { moments } from "./model_ops.js";

/** Each cell's part of the mean behind the norm, [cells, channels], and what belongs to no cell, [channels]. */
function parts(features, norm, normFirst) {
  const { data, height, width, channels } = features;
  const cells = height * width;
  const factor = meanFactor(features, norm);
  const out = new Float64Array(cells * channels);
  for (let cell = 0; cell < cells; cell++) {
    const from = cell * channels;
    const [middle, own] = norm.epsilon === undefined ? [0, 1] : moments(data, from, channels, norm.epsilon);
    const times = (norm.epsilon === undefined ? 1 : normFirst ? own : factor) / cells;
    for (let c = 0; c < channels; c++) out[from + c] = (data[from + c] - middle) * times * norm.scale[c];
  }
  return [out, norm.shift];
}

/** 1 / sqrt(variance + epsilon) of the mean over the cells. */
function meanFactor({ data, height, width, channels }, norm) {
  const sums = new Float64Array(channels);
  for (let at = 0; at < data.length; at++) sums[at % channels] += data[at] / (height * width);
  return moments(sums, 0, channels, norm.epsilon || 0)[1];
}

/** rows [count, inner] times matrix [inner, columns], in 64 bits. */
function times(rows, matrix, inner, columns) {
  const out = new Float64Array((rows.length / inner) * columns);
  for (let row = 0; row * inner < rows.length; row++) {
    for (let i = 0; i < inner; i++) {
      for (let j = 0; j < columns; j++) out[row * columns + j] += rows[row * inner + i] * matrix[i * columns + j];
    }
  }
  return out;
}

/**
 * A function (features, class) -> {values, bias, exact}: each cell's contribution to the logit, what belongs to none,
 * and whether that is exact.
 */
export function classMap({ head, steps }, floats) {
  const named = Object.fromEntries(steps.map((step) => [step.name, step]));
  const norm = { ...named["classifier/norm"] };
  Object.assign(norm, { scale: floats(norm.scale), shift: floats(norm.shift) });
  const layers = ["classifier/hidden", "classifier/logits"].filter((name) => named[name]).map((name) => {
    const { kernel, bias, columns } = named[name];
    return { matrix: floats(kernel), bias: floats(bias), columns };
  });

  return function contributions(features, label) {
    let [cells, rest] = parts(features, norm, head === "norm_first");
    let width = features.channels;
    layers.forEach(({ matrix, bias, columns }, at) => {
      cells = times(cells, matrix, width, columns);
      rest = times(rest, matrix, width, columns).map((value, j) => value + bias[j]);
      width = columns;
      if (head === "tanh" && at === 0) [cells, rest] = straightened(cells, rest, width);
    });
    const values = Float32Array.from(cells.filter((_, at) => at % width === label));
    return { values, bias: rest[label], exact: head !== "tanh" };
  };
}

/** Both times tanh(z) / z, z the sum of all parts. */
function straightened(cells, rest, width) {
  const sums = Float64Array.from(rest);
  for (let at = 0; at < cells.length; at++) sums[at % width] += cells[at];
  const slopes = sums.map((z) => (z ? Math.tanh(z) / z : 1));
  return [cells.map((value, at) => value * slopes[at % width]), rest.map((value, j) => value * slopes[j])];
}
