// What the marks on the page mean, for those who have not read a manual.

import { make } from "./dom.js";

/** "How to read this", closed until it is opened. */
export function createGuide(app) {
  const shifts = app.hasPlaces ? [
    ["↗ 40 % (−1, +1)", "of its weight goes, on average, to the cell one row up and one column right: the shift that has most. In green from 50 %: it is nearly a convolution."],
    ["an outlined cell", "the chosen pixel lies in it; layers with fewer cells have larger ones."],
    ["a dashed picture", "an image that the model takes for another class."],
    ["green and orange bars", "green: the image's class; orange: others."],
  ] : [];
  const drawn = app.manifest.model && !app.manifest.model.lacks ? [["a thin tick on a bar", "the probability before anything was changed."]] : [];
  const rows = [
    [app.hasPlaces ? "3.1 px" : "3.1 tokens", "the mean distance from a query to what it looks at."],
    ["H 0.42", "entropy. 0: one key has all weight; 1: all keys have the same."],
    ["to 0.31", "the largest value of a map that has its own colours."],
    ...shifts, ...drawn,
  ];
  return make("details", { className: "guide small" }, make("summary", {}, "How to read this"),
    make("dl", {}, ...rows.map(([mark, means]) => make("div", {}, make("dt", {}, mark), make("dd", {}, means)))));
}
