// What a head is like, in numbers and words; the numbers are analysis.head_report's.

import { short } from "./colours.js";
import { make } from "./dom.js";

/** Those that heads can be sorted by, and what they mean. */
export const METRICS = [
  { name: "distance", label: "distance", means: "mean distance from a query to what it looks at, in pixels" },
  { name: "entropy", label: "entropy", means: "0: one key has all weight; 1: all keys have the same" },
  { name: "peak", label: "convolution peak", means: "mean weight at the shift that has most; 1: a convolution with one tap" },
  { name: "consistency", label: "shift consistency (R²)", means: "how much of the weights follows from the shift alone" },
  { name: "local_mass", label: "weight on 3 × 3 cells", means: "weight on the query's cell and its neighbours" },
  { name: "content_dependence", label: "content dependence", means: "how far weights differ from image to image, in nats; 0: not at all" },
];

const OF_PLACES = ["distance", "peak", "consistency", "local_mass"];
const OF_SHIFTS = ["peak", "consistency", "local_mass"];

/** What a head is like, without what has no meaning: shifts in a row of tokens, and distances between two sequences. */
export function metricsOf(app, { queryGrid, keyGrid, metrics }, head) {
  if (queryGrid.image) return metrics(head);
  const [words, others] = [0, 1].map((side) => String(app.manifest.tokens?.[side]));
  const apart = words !== others || queryGrid.height !== keyGrid.height || queryGrid.width !== keyGrid.width;
  const without = apart ? OF_PLACES : queryGrid.height === 1 ? OF_SHIFTS : [];
  return Object.fromEntries(Object.entries(metrics(head)).filter(([name]) => !without.includes(name)));
}

/** A shift (rows down, columns right) as an arrow and numbers. */
export function shiftText([down, across]) {
  const arrows = [["↖", "↑", "↗"], ["←", "•", "→"], ["↙", "↓", "↘"]];
  const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value)}`;
  return `${arrows[Math.sign(down) + 1][Math.sign(across) + 1]} (${signed(down)}, ${signed(across)})`;
}

/** A head's badge: distance, entropy, and how convolutional it is and at which shift; {element, words}. */
export function badge(metrics, grid) {
  const known = (name) => metrics[name] !== null && metrics[name] !== undefined;
  const parts = [];
  const words = [];
  if (known("distance")) {
    const unit = grid.image ? "px" : "tokens";
    parts.push(make("span", { title: METRICS[0].means }, `${short(metrics.distance)} ${unit}`));
    words.push(`distance ${short(metrics.distance)} ${unit}`);
  }
  if (known("entropy")) {
    parts.push(make("span", { title: METRICS[1].means }, `H ${metrics.entropy.toFixed(2)}`));
    words.push(`entropy ${metrics.entropy.toFixed(2)}`);
  }
  if (known("peak") && known("peak_shift")) {
    const share = `${Math.round(100 * metrics.peak)} %`;
    const title = `On average ${share} of the weight is at the shift ${shiftText(metrics.peak_shift)}: rows down, columns right.`;
    const degree = metrics.peak >= 0.5 ? "chip convolutional" : "chip";
    parts.push(make("span", { className: degree, title }, `${share} ${shiftText(metrics.peak_shift)}`));
    words.push(`convolution peak ${share} at shift ${metrics.peak_shift.join(", ")}`);
  }
  return { element: make("span", { className: "badge" }, ...parts), words: words.join(", ") };
}
