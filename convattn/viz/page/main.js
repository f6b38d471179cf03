// Puts the page together and keeps it so.

import { createApp } from "./app.js";
import { createControls, createLegend, meaning } from "./controls.js";
import { createConvolutions, readFrom } from "./convolutions.js";
import { createDetail, weightOf } from "./detail.js";
import { make } from "./dom.js";
import { createOverlays, createPrediction, createThumbnails } from "./examples.js";
import { createExports, exported } from "./exporting.js";
import { createGuide } from "./guide.js";
import { createLive } from "./live.js";
import { capital, checkpointName, modelName, nameInMap, placeName } from "./names.js";
import { createPicture, createPrefix, createTokens } from "./picture.js";
import { createPins } from "./pins.js";
import { short, scaleOf } from "./colours.js";
import { has, isSigned, mapOf } from "./selection.js";
import { createStory } from "./story.js";
import { createTiles } from "./tiles.js";
import { unpack } from "./unpack.js";

const manifest = JSON.parse(document.getElementById("manifest").textContent);
const app = createApp(manifest, draw);
const picture = app.hasPlaces ? createPicture(app) : createTokens(app);
const prefix = createPrefix(app);
const models = Array.from({ length: app.models }, (_, which) => createTiles(app, which));
const controls = createControls(app);
const legend = createLegend();
const detail = createDetail(app);
const pins = createPins(app);
const convolutions = createConvolutions(app, manifest.layers.filter(({ kind }) => kind === "convolution"));
const left = app.hasPlaces ? [createThumbnails(app), createPrediction(app), createOverlays(app)] : [createThumbnails(app)];
const live = createLive(app);
const story = createStory(app, targets);
const spoken = make("p", { className: "unseen", role: "status", "aria-live": "polite" });
const tooltip = make("div", { className: "tooltip", "aria-hidden": "true" });
const headings = models.map(() => (app.models > 1 ? make("h2", {}) : null));
let step = app.state.step;
let remembering = null;

build();
app.read(location.hash);
addEventListener("hashchange", () => location.hash !== app.hash() && app.read(location.hash));
addEventListener("resize", () => app.redraw());
// For the console and for tests: what the page knows, as functions.
globalThis.convattn = { app, draw, manifest, unpack, mapOf, readFrom, exported: (kind) => exported(app, kind) };

function targets(target) {
  if (target.layer) return [models[0].tile(target.layer, target.head)].filter(Boolean);
  return [picture.element];
}

function build() {
  const about = make("details", { className: "about" }, make("summary", {}, "What this page is made from"),
    ...manifest.lines.map((line) => make("p", {}, line)));
  const maps = models.map(({ element }, which) => make("div", { className: "model" }, headings[which], element));
  const buttons = make("div", { className: "actions" }, pins.button, createExports(app));
  document.getElementById("page").append(
    make("header", {}, make("h1", {}, manifest.title), manifest.lines.length ? about : null),
    make("main", {},
      story?.element ?? "",
      make("div", { className: "columns" },
        make("section", { className: "left", "aria-label": "Picture" }, picture.element, prefix?.element ?? "", ...left.map(({ element }) => element)),
        make("section", { className: "middle", "aria-label": "Maps" }, make("h2", { className: "unseen" }, "Maps"), controls.element, legend.element, createGuide(app),
          make("div", { className: app.models > 1 ? "models two" : "models" }, ...maps)),
        make("section", { className: "right", "aria-label": "The chosen head" }, detail.element, buttons),
        convolutions?.element ?? ""),
      pins.element, live?.element ?? ""),
    spoken, tooltip);
}

function draw() {
  const selection = app.selection();
  if (step !== app.state.step) {
    step = app.state.step;
    models.forEach((each) => each.rebuild());
  }
  const found = models.map((each) => each.maps(selection));
  const signed = isSigned(selection.mode, selection.average);
  const shown = found.flat().filter(Boolean);
  const scale = app.state.scale === "shared" ? scaleOf(shown.flatMap(({ values, prefix: tokens }) => [values, tokens]), signed) : null;
  models.forEach((each, which) => each.update(found[which], selection, scale));
  const { layer, head } = app.chosen();
  const map = has(layer, selection) ? mapOf(layer, head, selection) : null;
  for (const part of [picture, prefix, controls, convolutions, pins, live, story, ...left]) part?.update();
  headings.forEach((heading, which) => heading?.replaceChildren(capital(modelName(app, which)), " ", make("small", { className: "muted" }, checkpointName(app, which))));
  legend.update(scale, selection);
  detail.update(map, scale, selection);
  tell(selection, layer, head, map);
  remember();
}

/** For those who hear the page: what is chosen, and the largest value. For those who see it: the value pointed at. */
function tell(selection, layer, head, map) {
  const { pointed } = app;
  tooltip.hidden = !pointed;
  if (pointed) {
    tooltip.textContent = pointed.text;
    tooltip.style.left = `${Math.min(pointed.event.clientX + 14, innerWidth - 190)}px`;
    tooltip.style.top = `${pointed.event.clientY + 14}px`;
  }
  if (!map) return;
  const name = (cell) => `${short(map.values[cell])} at ${nameInMap(app, map, cell)}`;
  const weight = app.state.weight === null ? "" : ` The chosen cell: ${name(weightOf(map, app.state.weight))}.`;
  const overlay = picture.said(selection.at);
  const text = `${capital(placeName(app, selection))}; ${layer.name}, head ${head}: largest ${name(weightOf(map, null))}.${weight} ${meaning(selection)}.${overlay ? ` ${overlay}.` : ""}`;
  if (spoken.textContent !== text) spoken.textContent = text;
}

/** The state in the address bar, a moment later: browsers refuse what writes there without a pause. */
function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(write, 150);
}

function write() {
  const hash = app.hash();
  if (location.hash === hash) return;
  try {
    history.replaceState(null, "", hash);
  } catch {
    // A frame without an address, as in a notebook.
  }
}
