// What the layers of a model compute, in plain loops: images in, images out.
//
// An image is {data, height, width, channels}: a Float32Array of [height * width * channels], row by row, the channels
// of a pixel side by side. Sums run in 64 bits and are rounded once, to 32.

export function newImage(height, width, channels) {
  return { data: new Float32Array(height * width * channels), height, width, channels };
}

function likeImage(image, data, channels = image.channels) {
  return { data, height: image.height, width: image.width, channels };
}

// [inner, columns] -> [columns, inner]: how `product` reads a matrix.
export function transposed(matrix, inner, columns) {
  const out = new Float32Array(matrix.length);
  for (let i = 0; i < inner; i++) for (let j = 0; j < columns; j++) out[j * inner + i] = matrix[i * columns + j];
  return out;
}

// rows [count, inner] times a matrix that lies transposed, [columns, inner], plus bias [columns] or nothing.
// Two rows and four columns at a time: each number read is used more than once.
export function product(rows, count, inner, matrix, columns, bias) {
  const out = new Float32Array(count * columns);
  for (let row = 0; row < count; row += 2) {
    const one = row * inner;
    const two = row + 1 < count ? one + inner : one;
    for (let column = 0; column < columns; column += 4) {
      const a = column * inner;
      const b = column + 1 < columns ? a + inner : a;
      const c = column + 2 < columns ? b + inner : a;
      const d = column + 3 < columns ? c + inner : a;
      let a1 = 0, b1 = 0, c1 = 0, d1 = 0, a2 = 0, b2 = 0, c2 = 0, d2 = 0;
      for (let k = 0; k < inner; k++) {
        const x = rows[one + k], y = rows[two + k];
        const p = matrix[a + k], q = matrix[b + k], r = matrix[c + k], s = matrix[d + k];
        a1 += x * p; b1 += x * q; c1 += x * r; d1 += x * s;
        a2 += y * p; b2 += y * q; c2 += y * r; d2 += y * s;
      }
      const sums = [a1, b1, c1, d1, a2, b2, c2, d2];
      for (let j = 0; j < 4 && column + j < columns; j++) {
        const added = bias ? bias[column + j] : 0;
        out[row * columns + column + j] = sums[j] + added;
        if (row + 1 < count) out[(row + 1) * columns + column + j] = sums[4 + j] + added;
      }
    }
  }
  return out;
}

export function dense(image, layer) {
  const { matrix, bias, columns } = layer;
  const data = product(image.data, image.height * image.width, image.channels, matrix, columns, bias);
  return likeImage(image, data, columns);
}

function numWindows(size, stride) {
  return Math.ceil(size / stride);
}

// Pixels of padding in front of an axis. Odd windows are padded alike on both sides, even ones at the end alone.
function paddingBefore(window) {
  return window % 2 ? (window - 1) / 2 : 0;
}

// What each window sees, side by side: [rows * columns, window * window * channels], zero outside.
function patches(image, window, stride) {
  const { data, height, width, channels } = image;
  const rows = numWindows(height, stride), columns = numWindows(width, stride), before = paddingBefore(window);
  const out = new Float32Array(rows * columns * window * window * channels);
  let at = 0;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      for (let i = 0; i < window; i++) {
        const y = row * stride + i - before;
        for (let j = 0; j < window; j++, at += channels) {
          const x = column * stride + j - before;
          if (y < 0 || y >= height || x < 0 || x >= width) continue;
          const from = (y * width + x) * channels;
          for (let c = 0; c < channels; c++) out[at + c] = data[from + c];
        }
      }
    }
  }
  return out;
}

// A dense convolution; kernel [window, window, channels, columns] lies as [columns, window * window * channels].
export function conv(image, { matrix, bias, columns, window, stride }) {
  const rows = numWindows(image.height, stride), width = numWindows(image.width, stride);
  const seen = window === 1 && stride === 1 ? image.data : patches(image, window, stride);
  const data = product(seen, rows * width, window * window * image.channels, matrix, columns, bias);
  return { data, height: rows, width, channels: columns };
}

// Every output channel sees one input channel; kernel [window, window, columns], columns a multiple of the channels.
export function depthwise(image, { kernel, bias, columns, window, stride }) {
  const { data, height, width, channels } = image;
  const filters = columns / channels, before = paddingBefore(window);
  const out = newImage(numWindows(height, stride), numWindows(width, stride), columns);
  const sums = new Float64Array(columns);
  for (let row = 0; row < out.height; row++) {
    for (let column = 0; column < out.width; column++) {
      if (bias) sums.set(bias);
      else sums.fill(0);
      for (let i = 0; i < window; i++) {
        const y = row * stride + i - before;
        if (y < 0 || y >= height) continue;
        for (let j = 0; j < window; j++) {
          const x = column * stride + j - before;
          if (x < 0 || x >= width) continue;
          const from = (y * width + x) * channels, tap = (i * window + j) * columns;
          if (filters === 1) for (let c = 0; c < columns; c++) sums[c] += data[from + c] * kernel[tap + c];
          else for (let c = 0; c < columns; c++) sums[c] += data[from + Math.floor(c / filters)] * kernel[tap + c];
        }
      }
      out.data.set(sums, (row * out.width + column) * columns);
    }
  }
  return out;
}

// Largest value or mean of the true pixels of each window.
export function pool(image, { reduce, window, stride }) {
  const { data, height, width, channels } = image;
  const before = paddingBefore(window);
  const out = newImage(numWindows(height, stride), numWindows(width, stride), channels);
  const values = new Float64Array(channels);
  for (let row = 0; row < out.height; row++) {
    for (let column = 0; column < out.width; column++) {
      values.fill(reduce === "max" ? -Infinity : 0);
      let count = 0;
      for (let y = row * stride - before; y < row * stride - before + window; y++) {
        for (let x = column * stride - before; x < column * stride - before + window; x++) {
          if (y < 0 || y >= height || x < 0 || x >= width) continue;
          const from = (y * width + x) * channels;
          count++;
          if (reduce === "max") for (let c = 0; c < channels; c++) values[c] = Math.max(values[c], data[from + c]);
          else for (let c = 0; c < channels; c++) values[c] += data[from + c];
        }
      }
      if (reduce === "mean") for (let c = 0; c < channels; c++) values[c] /= count;
      out.data.set(values, (row * out.width + column) * channels);
    }
  }
  return out;
}

// Every stride-th pixel.
export function subsample(image, { stride }) {
  const { data, width, channels } = image;
  const out = newImage(numWindows(image.height, stride), numWindows(width, stride), channels);
  for (let row = 0; row < out.height; row++) {
    for (let column = 0; column < out.width; column++) {
      const from = (row * stride * width + column * stride) * channels;
      out.data.set(data.subarray(from, from + channels), (row * out.width + column) * channels);
    }
  }
  return out;
}

// The mean over all pixels: an image of one.
export function mean(image) {
  const sums = new Float64Array(image.channels), pixels = image.height * image.width;
  for (let at = 0; at < image.data.length; at++) sums[at % image.channels] += image.data[at];
  return { data: Float32Array.from(sums, (sum) => sum / pixels), height: 1, width: 1, channels: image.channels };
}

// x * scale + shift, one each per channel: BatchNorm with its running averages, and a layer's scale.
export function affine(image, { scale, shift }) {
  const channels = image.channels, out = new Float32Array(image.data.length);
  for (let from = 0; from < out.length; from += channels) {
    for (let c = 0; c < channels; c++) out[from + c] = image.data[from + c] * scale[c] + (shift ? shift[c] : 0);
  }
  return likeImage(image, out);
}

// Mean, and 1 / sqrt(variance + epsilon), over `channels` numbers of data.
export function moments(data, from, channels, epsilon) {
  let sum = 0, squares = 0;
  for (let c = 0; c < channels; c++) sum += data[from + c];
  const middle = sum / channels;
  for (let c = 0; c < channels; c++) squares += (data[from + c] - middle) ** 2;
  return [middle, 1 / Math.sqrt(squares / channels + epsilon)];
}

export function layerNorm(image, { scale, shift, epsilon }) {
  const { data, channels } = image, out = new Float32Array(data.length);
  for (let from = 0; from < out.length; from += channels) {
    const [middle, factor] = moments(data, from, channels, epsilon);
    for (let c = 0; c < channels; c++) out[from + c] = (data[from + c] - middle) * factor * scale[c] + shift[c];
  }
  return likeImage(image, out);
}

// The error function to 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26).
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const terms = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  const value = 1 - terms * Math.exp(-x * x);
  return x < 0 ? -value : value;
}

export function sigmoid(x) {
  return 1 / (1 + Math.exp(-x));
}

const ACTIVATIONS = {
  gelu: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x))),
  silu: (x) => x * sigmoid(x),
  relu: (x) => Math.max(x, 0),
  tanh: Math.tanh,
};

export function activation(image, { function: name }) {
  return likeImage(image, image.data.map(ACTIVATIONS[name]));
}

export function add(one, two) {
  const out = new Float32Array(one.data.length);
  for (let at = 0; at < out.length; at++) out[at] = one.data[at] + two.data[at];
  return likeImage(one, out);
}

// x * sigmoid(W2 act(W1 mean(x) + b1) + b2): a gate for each channel.
export function squeezeExcite(image, { reduce, expand, function: name }) {
  const gate = dense(activation(dense(mean(image), reduce), { function: name }), expand);
  return affine(image, { scale: gate.data.map(sigmoid) });
}

// Along each row, what lies `taps` - 1 steps of `dilation` before a pixel up to itself, zero before the start; `matrix`
// is [columns, taps * channels], the last tap sees the present.
export function causalConv(image, { matrix, bias, columns, taps, dilation }) {
  const { data, height, width, channels } = image;
  const seen = new Float32Array(height * width * taps * channels);
  for (let pixel = 0; pixel < height * width; pixel++) {
    for (let j = 0; j < taps; j++) {
      const back = (taps - 1 - j) * dilation;
      if (back > pixel % width) continue;
      const from = (pixel - back) * channels;
      seen.set(data.subarray(from, from + channels), (pixel * taps + j) * channels);
    }
  }
  return likeImage(image, product(seen, height * width, taps * channels, matrix, columns, bias), columns);
}

// tanh of the first half of the channels times the sigmoid of the second.
export function gated(image) {
  const half = image.channels / 2, out = newImage(image.height, image.width, half);
  for (let pixel = 0; pixel < image.height * image.width; pixel++) {
    const from = pixel * image.channels;
    for (let c = 0; c < half; c++) {
      out.data[pixel * half + c] = Math.tanh(image.data[from + c]) * sigmoid(image.data[from + half + c]);
    }
  }
  return out;
}
