// The model itself: from the description that page_model.py writes to a forward pass whose parts can be switched off.
//
// A description is a list of steps. Each takes an image and gives one; "residual" is two lists of them, whose results
// are added. What a step computes is in model_ops.js and model_attention.js.

import {
  activation, add, affine, causalConv, conv, dense, depthwise, gated, layerNorm, mean, pool, squeezeExcite, subsample,
  transposed,
} from "./model_ops.js";
import { attend, headGrams, positionBias } from "./model_attention.js";
import { classMap } from "./model_class_map.js";

/** A matrix [inner, columns] as `product` reads it, and its bias. Several axes of columns count as one. */
function layerOf({ kernel, bias, columns }, numbers) {
  const values = numbers(kernel);
  return { matrix: transposed(values, values.length / columns, columns), bias: bias && numbers(bias), columns };
}

/** The layer with each output channel's kernel times a number, such as 0: switched off. Its bias stays. */
function scaledColumns(layer, scales) {
  if (!scales) return layer;
  const matrix = layer.matrix.slice();
  const inner = matrix.length / layer.columns;
  for (let at = 0; at < matrix.length; at++) matrix[at] *= scales[Math.floor(at / inner)];
  return { ...layer, matrix };
}

function scaledTaps(layer, scales) {
  return scales ? { ...layer, kernel: layer.kernel.map((tap, at) => tap * scales[at % layer.columns]) } : layer;
}

/** Which cells of a grid have none but hidden pixels; `hidden` has a number for each pixel of an image so wide. */
export function hiddenCells(hidden, [height, width], [down, across], [rows, columns]) {
  const cells = new Uint8Array(rows * columns);
  for (let cell = 0; cell < cells.length; cell++) {
    const top = Math.floor(cell / columns) * down;
    const left = (cell % columns) * across;
    let all = 1;
    for (let y = top; y < Math.min(top + down, height); y++) {
      for (let x = left; x < Math.min(left + across, width); x++) if (!hidden[y * width + x]) all = 0;
    }
    cells[cell] = all;
  }
  return cells;
}

// What makes a step's function (image, run) -> image, by its kind. `run` holds the switches and collects the maps.
const MAKERS = {
  conv(step, numbers) {
    const layer = { ...step, ...layerOf(step, numbers) };
    return (image, run) => conv(image, scaledColumns(layer, run.kernels[step.name]));
  },
  depthwise(step, numbers) {
    const layer = { ...step, kernel: numbers(step.kernel), bias: step.bias && numbers(step.bias) };
    return (image, run) => depthwise(image, scaledTaps(layer, run.kernels[step.name]));
  },
  dense(step, numbers) {
    const layer = layerOf(step, numbers);
    return (image) => dense(image, layer);
  },
  affine(step, numbers) {
    const layer = { scale: numbers(step.scale), shift: step.shift && numbers(step.shift) };
    return (image) => affine(image, layer);
  },
  layer_norm(step, numbers) {
    const layer = { scale: numbers(step.scale), shift: numbers(step.shift), epsilon: step.epsilon };
    return (image) => layerNorm(image, layer);
  },
  activation: (step) => (image) => activation(image, step),
  pool: (step) => (image) => pool(image, step),
  subsample: (step) => (image) => subsample(image, step),
  mean: () => mean,
  squeeze_excite(step, numbers) {
    const layer = { ...step, reduce: layerOf(step.reduce, numbers), expand: layerOf(step.expand, numbers) };
    return (image) => squeezeExcite(image, layer);
  },
  attention: attentionStep,
  dilated_stack: dilatedStack,
  residual(step, numbers) {
    const shortcut = chain(step.shortcut, numbers);
    const branch = chain(step.branch, numbers);
    return (image, run) => add(shortcut(image, run), branch(image, run));
  },
};

function attentionStep(step, numbers) {
  const { heads, grid, stride } = step;
  const names = ["query", "key", "value", "out"];
  const parts = Object.fromEntries(names.map((part) => [part, layerOf(step[part], numbers)]));
  const size = parts.query.columns / heads;
  const grams = headGrams(parts.out.matrix, heads, size, parts.out.columns);
  const bias = step.position && positionBias(numbers(step.position), heads, ...grid);
  const layer = { heads, size, grams, bias, relative: step.relative, ...parts };
  return (image, run) => {
    const hidden = run.hidden && hiddenCells(run.hidden, run.size, stride, grid);
    const { image: out, maps } = attend(image, layer, run.heads[step.name], hidden);
    run.layers[step.name] = { ...maps, heads, cells: grid[0] * grid[1] };
    return out;
  };
}

function dilatedStack(step, numbers) {
  const start = layerOf(step.start, numbers);
  const rows = step.layers.map(({ name, taps, dilation, conv: both, skip, residual }) => ({
    name,
    both: { ...layerOf(both, numbers), taps, dilation },
    skip: layerOf(skip, numbers),
    residual: residual && layerOf(residual, numbers),
  }));
  return (image, run) => {
    let x = dense(image, start);
    let sum = null;
    for (const { name, both, skip, residual } of rows) {
      const z = gated(causalConv(x, scaledColumns(both, run.kernels[name])));
      sum = sum ? add(sum, dense(z, skip)) : dense(z, skip);
      if (residual) x = add(x, dense(z, residual));
    }
    return subsample(sum, { stride: step.stride });
  };
}

function chain(steps, numbers) {
  const made = steps.map((step) => MAKERS[step.kind](step, numbers));
  return (image, run) => made.reduce((x, apply) => apply(x, run), image);
}

/**
 * A model from its description; `floats` makes a Float32Array of a blob.
 *
 * forward(pixels, {heads, kernels, hidden}) takes what the model takes, a Float32Array of [height * width * channels],
 * and gives {logits, features, layers}: layers by their name, {heads, cells, probabilities, content, position,
 * valueNorms}. `heads` and `kernels` have, by a layer's name, a number for each head or kernel that its output or its
 * weights are multiplied with, 0 to switch it off; `hidden` a number for each pixel, 1 where attention does not look: a
 * cell of which every pixel is hidden is seen by no query.
 *
 * classMap(features, label) is what each cell adds to a logit, of model_class_map.js.
 */
export function createModel(description, floats) {
  const [height, width, channels] = description.image_shape;
  const body = chain(description.steps, floats);
  const head = chain(description.classifier.steps, floats);

  function forward(pixels, { heads = {}, kernels = {}, hidden = null } = {}) {
    if (pixels.length !== height * width * channels) {
      throw new Error(`the image has ${pixels.length} numbers, but must have ${height} x ${width} x ${channels}.`);
    }
    const run = { heads, kernels, hidden, size: [height, width], layers: {} };
    const features = body({ data: pixels, height, width, channels }, run);
    return { logits: head(features, run).data, features, layers: run.layers };
  }

  return { forward, classMap: classMap(description.classifier, floats) };
}

/** What the model takes, (value / 255 - mean) / std of each channel, from bytes [height * width * channels]. */
export function normalized(bytes, { mean: means, std }) {
  return Float32Array.from(bytes, (byte, at) => (byte / 255 - means[at % means.length]) / std[at % std.length]);
}
