// A picture of any size as the model's pixels: what pretrained/pictures.py does, by the browser's decoder and Pillow's
// way of resizing, which averages over the area that a smaller pixel covers.

/** Interpolation -> [how far it reaches, in pixels of the larger image; the weight at a distance]. */
const FILTERS = {
  bilinear: [1, (x) => Math.max(1 - Math.abs(x), 0)],
  bicubic: [2, cubic],
};

/** Keys' cubic convolution with a = -1/2, as Pillow has it. */
function cubic(at) {
  const x = Math.abs(at);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? -0.5 * (((x - 5) * x + 8) * x - 4) : 0;
}

/** For each of `size` pixels made from `length`: [the first that it reads, the weights of that and those behind it]. */
function readings(length, size, interpolation) {
  const step = length / size;
  if (interpolation === "nearest") return Array.from({ length: size }, (_, i) => [Math.floor((i + 0.5) * step), [1]]);
  const [reach, filter] = FILTERS[interpolation];
  const wider = Math.max(step, 1);
  return Array.from({ length: size }, (_, i) => {
    const centre = (i + 0.5) * step;
    const first = Math.max(Math.floor(centre - reach * wider + 0.5), 0);
    const end = Math.min(Math.floor(centre + reach * wider + 0.5), length);
    const weights = Array.from({ length: end - first }, (_, k) => filter((first + k - centre + 0.5) / wider));
    const sum = weights.reduce((one, two) => one + two, 0);
    return [first, weights.map((weight) => weight / sum)];
  });
}

/** Bytes [height, width] to [rows, columns], across and then down, rounded to bytes between. */
export function resized(bytes, [height, width], [rows, columns], interpolation) {
  const across = new Uint8ClampedArray(height * columns);
  readings(width, columns, interpolation).forEach(([first, weights], column) => {
    for (let row = 0; row < height; row++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * bytes[row * width + first + k];
      across[row * columns + column] = sum;
    }
  });
  const out = new Uint8ClampedArray(rows * columns);
  readings(height, rows, interpolation).forEach(([first, weights], row) => {
    for (let column = 0; column < columns; column++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * across[(first + k) * columns + column];
      out[row * columns + column] = sum;
    }
  });
  return out;
}

/** To the nearest whole number, of two equally near the even one, as Python rounds. */
function rounded(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 ? below + 1 : below;
}

/** [height, width] that a picture is resized to in front of the crop. */
function sizeBeforeCrop([height, width], { image_size: size, crop_fraction: fraction, crop_mode: mode }) {
  const [rows, columns] = size.map((each) => Math.floor(each / fraction));
  if (mode === "squash") return [rows, columns];
  if (rows === columns) {
    const short = Math.min(height, width);
    return [Math.floor((rows * height) / short), Math.floor((rows * width) / short)];
  }
  const ratio = Math.min(height / rows, width / columns);
  return [rounded(height / ratio), rounded(width / ratio)];
}

/** Channels of a picture's pixels {data: RGBA, height, width}: [grey], as ITU-R 601-2 weighs colours, or three. */
function planes({ data, height, width }, channels) {
  return Array.from({ length: channels }, (_, channel) => {
    const plane = new Uint8Array(height * width);
    for (let at = 0; at < plane.length; at++) {
      const [red, green, blue] = [data[4 * at], data[4 * at + 1], data[4 * at + 2]];
      plane[at] = channels === 1 ? (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16 : data[4 * at + channel];
    }
    return plane;
  });
}

/** The model's bytes [height * width * channels] of a picture's pixels {data: RGBA, height, width}. */
export function modelBytes(picture, preprocessing) {
  const { image_size: [height, width], mean, interpolation } = preprocessing;
  const size = [picture.height, picture.width];
  const before = sizeBeforeCrop(size, preprocessing);
  const [top, left] = [rounded((before[0] - height) / 2), rounded((before[1] - width) / 2)];
  const out = new Uint8ClampedArray(height * width * mean.length);
  planes(picture, mean.length).forEach((plane, channel) => {
    const made = resized(plane, size, before, interpolation);
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        out[(row * width + column) * mean.length + channel] = made[(row + top) * before[1] + column + left];
      }
    }
  });
  return out;
}

/** Edges that are read at full size; a longer picture is first shrunk by the browser. */
const LONGEST = 4096;

/** The pixels {data: RGBA, height, width} of a file; rejects with a sentence where it is no picture. */
export async function decoded(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${file.name || "This"} is no picture that this browser can read.`);
  }
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
