// What the model says of the picture: a bar for each class, and which cells speak for one of them.

import { short } from "./colours.js";
import { make, placeIn } from "./dom.js";
import { percent, setPressed, signedCanvas, toggle } from "./live_parts.js";

/** So many of many classes have a bar: the likeliest. */
const MOST = 10;

/**
 * {element, update(logits, probabilities, before), chosen()}: bars of probabilities with names, and a mark where each
 * was for the picture as it began. A click on a name chooses the class; until then it is the likeliest.
 */
export function classBars(nameOf, onchoose) {
  const list = make("ul", { className: "live-classes" });
  let chosen = null; // by a click
  let best = null;
  let rows = [];

  function row(label) {
    const bar = make("span", { className: "live-bar" });
    const mark = make("span", { className: "live-mark" });
    const number = make("span", { className: "live-number" });
    const name = toggle(nameOf(label), false, () => choose(label), {
      className: "live-name",
      title: "which cells speak for it",
    });
    const track = make("span", { className: "live-track", "aria-hidden": "true" }, bar, mark);
    const element = make("li", {}, name, track, number);
    return { label, element, name, bar, mark, number };
  }

  function choose(label) {
    chosen = label;
    for (const each of rows) setPressed(each.name, each.label === label);
    onchoose();
  }

  function update(logits, probabilities, before) {
    const labels = Array.from(logits.keys());
    if (labels.length > MOST) labels.sort((one, two) => probabilities[two] - probabilities[one]).splice(MOST);
    if (rows.length !== labels.length || rows.some((each, at) => each.label !== labels[at])) {
      rows = labels.map(row);
      list.replaceChildren(...rows.map((each) => each.element));
    }
    best = probabilities.indexOf(Math.max(...probabilities));
    for (const { label, element, name, bar, mark, number } of rows) {
      element.classList.toggle("live-best", label === best);
      setPressed(name, label === (chosen ?? best));
      bar.style.width = `${100 * probabilities[label]}%`;
      mark.style.left = `${100 * before[label]}%`;
      number.textContent = percent(probabilities[label]);
      number.title = `logit ${short(logits[label])}`;
    }
  }
  return { element: list, update, chosen: () => chosen ?? best };
}

/** {element, update(map, grid, name, logit)}: each cell's contribution to a logit, as cells, with numbers on hover. */
export function classMapView() {
  const title = make("p", { className: "muted small" });
  const cells = make("div", { className: "live-map" });
  const told = make("p", { className: "muted small" });
  const element = make("div", {}, title, cells, told);

  function update({ values, bias, exact }, [rows, columns], name, logit) {
    const sum = values.reduce((one, two) => one + two, 0);
    title.textContent = `Which cells speak for ${name} (orange) and against it (blue): ${rows} × ${columns} cells.`;
    told.textContent =
      `cells ${short(sum)} + bias ${short(bias)} = logit ${short(logit)}` +
      (exact ? "." : ", approximately: behind the classifier's tanh a cell has no share of its own.");
    const canvas = signedCanvas(values, rows, columns);
    canvas.style.aspectRatio = `${columns} / ${rows}`;
    const number = make("span", { className: "live-cell" });
    const cellText = (at) => `row ${Math.floor(at / columns)}, column ${at % columns}: ${short(values[at])}`;
    canvas.addEventListener("pointermove", (event) => {
      const [down, across] = placeIn(canvas, event);
      const at = Math.floor(down * rows) * columns + Math.floor(across * columns);
      number.textContent = at in values ? cellText(at) : "";
    });
    canvas.addEventListener("pointerleave", () => { number.textContent = ""; });
    cells.setAttribute("role", "img");
    cells.setAttribute("aria-label", `The most for ${name}: ${cellText(values.indexOf(Math.max(...values)))}.`);
    cells.replaceChildren(canvas, number);
  }
  return { element, update };
}
