// What queries and keys are called, each by the words of its own sequence.

import { cellName } from "./geometry.js";

/** What a token before those of the grid is called. */
export function prefixName(token) {
  return token === 0 ? "class" : `register ${token}`;
}

/** The words of the queries (0) or of the keys (1); undefined: they have none. */
export function wordsOf(app, side) {
  return app.manifest.tokens?.[side] ?? undefined;
}

/** What a cell of a map is called. */
export function nameInMap(app, map, cell) {
  return cellName(map.grid, cell, wordsOf(app, map.side));
}

/** What is selected, in words: "pixel 3, 4", "class token", "token fox"; a key where one asks who looks at it. */
export function placeName(app, { at, direction }) {
  if (at === "all") return "all queries";
  if (at.token !== undefined) return `${prefixName(at.token)} token`;
  if (!app.hasPlaces) return `token ${wordsOf(app, direction === "in" ? 1 : 0)?.[at[1]] ?? at[1]}`;
  return at.length === 4 ? `pixels ${at[0]}, ${at[1]} to ${at[2]}, ${at[3]}` : `pixel ${at[0]}, ${at[1]}`;
}

/** Which of two models, and its title. */
export function modelName(app, which) {
  return `${["first", "second"][which]} model (${[app.manifest, app.manifest.compare][which].title})`;
}

/** The checkpoint of a model and its step, as far as they are known; "" where they are not. */
export function checkpointName(app, which) {
  const { digest, step: last } = [app.manifest, app.manifest.compare][which].checkpoint ?? {};
  const earlier = which === 0 ? app.state.step : null;
  const step = earlier ?? last;
  const known = [digest && earlier === null ? `checkpoint ${digest.slice(0, 8)}` : "", Number.isFinite(step) ? `step ${step.toLocaleString("en")}` : ""];
  return known.filter(Boolean).join(", ");
}

/** Whose something is, where there are two models: " · first model (...)". */
export function whose(app, which) {
  return app.models > 1 ? ` · ${modelName(app, which)}` : "";
}

/** An image's class, and what a model takes it for, as far as they are known: "is cat, taken for dog (0.45)". */
export function className({ label, probabilities, changed }, nameOf) {
  const best = probabilities?.length ? probabilities.indexOf(Math.max(...probabilities)) : null;
  const taken = best === null ? "" : `taken for ${nameOf(best)} (${probabilities[best].toFixed(2)})`;
  return [label === null ? "" : `is ${nameOf(label)}`, changed ? "changed" : "", taken].filter(Boolean).join(", ");
}

/** What is laid over the picture. */
export function overlayName(app) {
  return app.state.overlay === "head" ? "the chosen head" : app.state.overlay.replaceAll("_", " ");
}

/** With a capital, as a sentence begins. */
export function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}
