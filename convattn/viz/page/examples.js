// The images to choose from, what the model says of the chosen one, and what can be laid over it.

import { drawPicture, prepared } from "./cells.js";
import { scaleOf, short } from "./colours.js";
import { drawBar } from "./controls.js";
import { choiceOf, make } from "./dom.js";
import { capital, modelName } from "./names.js";

/** Small pictures, one pressed; gives {element, update()}. */
export function createThumbnails(app) {
  const [height, width] = app.size;
  const { images } = app.manifest;
  const buttons = images.map((image, i) => {
    const canvas = make("canvas", {});
    const wrong = image.label !== null && image.predicted !== null && image.label !== image.predicted;
    const told = [image.name, image.label === null ? "" : `is ${app.className(image.label)}`, wrong ? `taken for ${app.className(image.predicted)}` : ""];
    const words = told.filter(Boolean).join(", ");
    const button = make("button", {
      type: "button", className: wrong ? "thumbnail wrong" : "thumbnail", title: words, "aria-label": words,
      onclick: () => app.set({ image: i, weight: null, average: app.state.average === "mean" ? "one" : app.state.average }),
    }, canvas);
    if (image.pixels) drawPicture(prepared(canvas, 36, Math.min(72, (36 * height) / width)), app.bytesOf(i), height, width);
    else button.textContent = image.name;
    return button;
  });
  const element = make("div", { className: "thumbnails", role: "group", "aria-label": "Images" }, ...buttons);
  element.hidden = images.length < 2;
  const update = () => buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === app.state.image)));
  return { element, update };
}

/** What the image is and what each model takes it for; gives {element, update()}. */
export function createPrediction(app) {
  const element = make("div", { className: "prediction" });

  function bars({ label, probabilities }, named) {
    const best = (probabilities ?? []).map((p, i) => [p, i]).sort((one, other) => other[0] - one[0]).slice(0, 3);
    return best.map(([p, i]) => {
      const bar = make("span", { className: i === label ? "bar true" : "bar" });
      bar.style.width = `${100 * p}%`;
      return make("div", { className: "class" }, make("span", { className: "name" }, named(i)), make("span", { className: "track" }, bar), make("span", { className: "number" }, short(p)));
    });
  }

  function update() {
    const image = app.image();
    const told = [make("p", { className: "small" }, image.name)];
    if (image.label !== null) told[0].append(" · is ", make("b", {}, app.className(image.label)));
    if (image.changed) told[0].append(", changed");
    const whoseBars = (which) => (app.models > 1 ? [make("p", { className: "muted small" }, capital(modelName(app, which)))] : []);
    told.push(...whoseBars(0), ...bars(image, app.className));
    const other = app.manifest.compare?.images[app.state.image];
    if (other) told.push(...whoseBars(1), ...bars(other, (i) => app.manifest.compare.class_names?.[i] ?? `class ${i}`));
    element.replaceChildren(...told);
  }
  return { element, update };
}

/** What can be laid over the picture, with its scores; gives {element, update()}; null: nothing can. */
export function createOverlays(app) {
  const names = [...new Set(app.manifest.overlays.map(({ name }) => name))];
  const choices = [["none", "nothing"], ["head", "the chosen head"], ...names.map((name) => [name, name.replaceAll("_", " ")])];
  const { element: field, select } = choiceOf("laid over it", choices, app.state.overlay, (overlay) => app.set({ overlay }));
  const note = make("p", { className: "muted small" });
  const scores = make("dl", { className: "scores small" });
  const bar = make("canvas", { "aria-hidden": "true" });
  const [low, high] = [make("span", {}), make("span", {})];
  const legend = make("div", { className: "colour-bar" }, low, bar, high);
  const element = make("div", { className: "overlays" }, field, legend, note, scores);
  function update() {
    select.value = choices.some(([value]) => value === app.state.overlay) ? app.state.overlay : "none";
    const shown = app.overlay();
    legend.hidden = !shown;
    if (shown) {
      const scale = scaleOf([shown.values], shown.signed);
      drawBar(bar, scale);
      [low.textContent, high.textContent] = [short(scale.low), short(scale.high)];
    }
    const overlay = app.storedOverlay();
    note.textContent = overlay?.note ?? (names.includes(app.state.overlay) ? "There is none for this image." : "");
    const told = Object.entries(overlay?.scores ?? {});
    scores.replaceChildren(...told.map(([name, score]) => make("div", {}, make("dt", {}, name.replaceAll("_", " ")), make("dd", {}, short(score)))));
  }
  return { element, update };
}
