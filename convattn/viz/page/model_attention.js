// Self-attention over the cells of a grid, with what a reader of it asks for: weights, logits in two parts, and how
// long each value is behind the output matrix.

import { product } from "./model_ops.js";

// bias[head, q, k] = table[head, row_k - row_q + h - 1, column_k - column_q + w - 1]; table [heads, 2h - 1, 2w - 1].
export function positionBias(table, heads, height, width) {
  const cells = height * width, rows = 2 * height - 1, columns = 2 * width - 1;
  const out = new Float32Array(heads * cells * cells);
  for (let head = 0, at = 0; head < heads; head++) {
    for (let q = 0; q < cells; q++) {
      for (let k = 0; k < cells; k++, at++) {
        const down = Math.floor(k / width) - Math.floor(q / width) + height - 1;
        const across = (k % width) - (q % width) + width - 1;
        out[at] = table[(head * rows + down) * columns + across];
      }
    }
  }
  return out;
}

// W W' for each head's rows W [size, columns] of an output matrix that lies transposed, [columns, heads * size].
export function headGrams(matrix, heads, size, columns) {
  const inner = heads * size, out = new Float64Array(heads * size * size);
  for (let head = 0; head < heads; head++) {
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        let sum = 0;
        for (let c = 0; c < columns; c++) {
          sum += matrix[c * inner + head * size + i] * matrix[c * inner + head * size + j];
        }
        out[(head * size + i) * size + j] = sum;
      }
    }
  }
  return out;
}

// query . key / sqrt(size) of every head: [heads, q, k]; -Infinity where a key is hidden.
function contentLogits(query, key, cells, heads, size, hidden) {
  const out = new Float32Array(heads * cells * cells), width = heads * size, scale = 1 / Math.sqrt(size);
  for (let head = 0, at = 0; head < heads; head++) {
    for (let q = 0; q < cells; q++) {
      for (let k = 0; k < cells; k++, at++) {
        const one = q * width + head * size, two = k * width + head * size;
        let sum = 0;
        for (let i = 0; i < size; i++) sum += query[one + i] * key[two + i];
        out[at] = hidden && hidden[k] ? -Infinity : sum * scale;
      }
    }
  }
  return out;
}

// Softmax over rows of `cells` keys; a row that sees no key is zero.
function weightsOf(content, bias, cells) {
  const out = new Float32Array(content.length), terms = new Float64Array(cells);
  for (let from = 0; from < out.length; from += cells) {
    let largest = -Infinity, sum = 0;
    for (let k = 0; k < cells; k++) {
      terms[k] = content[from + k] + (bias ? bias[from + k] : 0);
      if (terms[k] > largest) largest = terms[k];
    }
    if (largest === -Infinity) continue;
    for (let k = 0; k < cells; k++) sum += terms[k] = Math.exp(terms[k] - largest);
    for (let k = 0; k < cells; k++) out[from + k] = terms[k] / sum;
  }
  return out;
}

// Behind the softmax of `relative` "post": each key's own weight, where it may be seen.
function addStatic(weights, bias, cells, hidden) {
  for (let at = 0; at < weights.length; at++) if (!hidden || !hidden[at % cells]) weights[at] += bias[at];
}

// |v W_O| = sqrt(v (W_O W_O') v') of every head and cell: [heads, k].
function lengths(value, grams, cells, heads, size, scales) {
  const out = new Float32Array(heads * cells), width = heads * size;
  for (let head = 0; head < heads; head++) {
    for (let k = 0; k < cells; k++) {
      const from = k * width + head * size;
      let sum = 0;
      for (let i = 0; i < size; i++) {
        for (let j = 0; j < size; j++) sum += value[from + i] * value[from + j] * grams[(head * size + i) * size + j];
      }
      out[head * cells + k] = Math.sqrt(Math.max(sum, 0)) * Math.abs(scales ? scales[head] : 1);
    }
  }
  return out;
}

function weightedSum(weights, value, cells, heads, size, scales) {
  const width = heads * size, out = new Float32Array(cells * width), sums = new Float64Array(size);
  for (let head = 0; head < heads; head++) {
    const scale = scales ? scales[head] : 1;
    for (let q = 0; q < cells; q++) {
      sums.fill(0);
      for (let k = 0; k < cells; k++) {
        const weight = weights[(head * cells + q) * cells + k], from = k * width + head * size;
        for (let i = 0; i < size; i++) sums[i] += weight * value[from + i];
      }
      for (let i = 0; i < size; i++) out[q * width + head * size + i] = sums[i] * scale;
    }
  }
  return out;
}

// image -> {image, maps}: the layer's output, and its probabilities, content and position [heads, q, k] and value norms
// [heads, k]; position is null where nothing is added to the logits. `scales` is one number for each head's output (0:
// switched off), `hidden` which cells no query may see.
export function attend(image, layer, scales, hidden) {
  const { heads, size, query, key, value, out, grams, bias, relative } = layer;
  const cells = image.height * image.width;
  const project = (part) => product(image.data, cells, image.channels, part.matrix, part.columns, part.bias);
  const values = project(value);
  const content = contentLogits(project(query), project(key), cells, heads, size, hidden);
  const position = relative === "pre" ? bias : null;
  const probabilities = weightsOf(content, position, cells);
  if (relative === "post") addStatic(probabilities, bias, cells, hidden);
  const sums = weightedSum(probabilities, values, cells, heads, size, scales);
  return {
    image: {
      data: product(sums, cells, heads * size, out.matrix, out.columns, out.bias),
      height: image.height,
      width: image.width,
      channels: out.columns,
    },
    maps: { probabilities, content, position, valueNorms: lengths(values, grams, cells, heads, size, scales) },
  };
}
