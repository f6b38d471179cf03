// From numbers to colours: viridis for what starts at zero, and blue to orange through white for what has a sign. Both
// can be told apart by colour-blind readers, and in grey print the first one's order stays.

const VIRIDIS = [
  [68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37],
];
const BLUE_TO_ORANGE = [
  [8, 48, 107], [33, 102, 172], [103, 169, 207], [190, 216, 232], [247, 247, 247],
  [253, 214, 164], [244, 157, 64], [204, 97, 8], [127, 59, 8],
];
/** Of what is masked, -inf. */
export const MASKED = [128, 128, 128];
/** Around what is lit up, and around the query in the picture. */
export const LIT = "#ff9a4d";
const STEPS = 256;

const TABLES = { sequential: tableOf(VIRIDIS), diverging: tableOf(BLUE_TO_ORANGE) };

function tableOf(anchors) {
  const table = new Uint8Array(STEPS * 3);
  for (let step = 0; step < STEPS; step++) {
    const place = (step / (STEPS - 1)) * (anchors.length - 1);
    const below = Math.min(Math.floor(place), anchors.length - 2);
    for (let c = 0; c < 3; c++) {
      table[step * 3 + c] = Math.round(anchors[below][c] + (place - below) * (anchors[below + 1][c] - anchors[below][c]));
    }
  }
  return table;
}

/** {low, high, kind}: from zero to the largest value, or around zero as far as the largest one on either side. */
export function scaleOf(arrays, signed) {
  let most = 0;
  for (const values of arrays) {
    for (const value of values) if (Number.isFinite(value) && Math.abs(value) > most) most = Math.abs(value);
  }
  most ||= 1;
  return { low: signed ? -most : 0, high: most, kind: signed ? "diverging" : "sequential" };
}

/** [red, green, blue] of a value on a scale; null for nan. */
export function colourOf(scale, value) {
  if (Number.isNaN(value)) return null;
  if (value === -Infinity) return MASKED;
  const place = Math.min(Math.max((value - scale.low) / (scale.high - scale.low), 0), 1);
  const start = Math.round(place * (STEPS - 1)) * 3;
  return TABLES[scale.kind].subarray(start, start + 3);
}

/** As CSS and SVG write it. */
export function cssColour(colour) {
  return `rgb(${colour[0]}, ${colour[1]}, ${colour[2]})`;
}

/** Black or white, whichever reads better on a colour. */
export function inkOn([red, green, blue]) {
  const [r, g, b] = [red, green, blue].map((each) => (each / 255 <= 0.03928 ? each / 3294.6 : ((each / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}

/** A number with three digits that matter: 0.0123, 1.23, 12.3. */
export function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "none";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  const text = size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : size >= 1 ? value.toFixed(2) : value.toFixed(3);
  return text.replace("-", "−");
}
