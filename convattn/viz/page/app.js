// What the parts of the page share: its data, what is chosen, and the maps that follow.

import { createLayer } from "./layers.js";
import { has, isSigned, mapOf } from "./selection.js";
import { putRight } from "./sound.js";
import { FIRST, hashOf, stateOf } from "./state.js";
import { unpack } from "./unpack.js";

/** The app of a manifest. `changed` is called, once a frame, when something is to be drawn anew. */
export function createApp(manifest, changed) {
  const models = [manifest, ...(manifest.compare ? [manifest.compare] : [])].map(statesOf);
  const attending = models[0].get(null);
  const { height, width, image: picture } = attending[0].queryGrid;
  const size = manifest.image_size ?? picture ?? [height, width];
  const hasPlaces = picture !== null;
  const live = { bytes: null, probabilities: null, began: 0, name: "your picture", label: null, changed: false, heads: {} };
  let hovered = null;
  let waiting = false;

  const app = {
    manifest, size, hasPlaces, models: models.length,
    state: { ...FIRST, ...beginning(manifest, attending, size) },
    pointed: null,
    /** A cell {layer, head, cell} of a head's map that is lit up; null: none. */
    lit: null,
    /** Layers that attend, of a model and at a step of its training; only the first model has steps. */
    layers: (which, step = app.state.step) => models[which].get(which === 0 ? step : null) ?? models[which].get(null),
    chosen() {
      const { model, layer: name, head } = app.state;
      const layer = app.layers(model).find((each) => each.name === name) ?? app.layers(0)[0];
      return { layer, head: Math.min(head, layer.heads - 1) };
    },
    /** What is selected now: what the pointer is over, else what was kept. */
    selection() {
      const { at, direction, average, image, mode, s } = app.state;
      return { at: hovered ?? at, direction, average, image, mode, s };
    },
    map: (layer, head) => mapOf(layer, head, app.selection()),
    /** A place to go back to from "all". */
    placed: () => (app.state.at === "all" ? known.middle : app.state.at),
    set(patch) {
      app.state = sound({ ...app.state, ...patch });
      hovered = null;
      later();
    },
    preview(at) {
      hovered = at;
      later();
    },
    /** Lights up a cell, with what it sees from a place. */
    light(found, at) {
      app.lit = found;
      app.preview(at);
    },
    /** The lit cell of a map, as drawOutlines takes cells. */
    litOf: (layer, head, map) => (app.lit?.layer === layer.name && app.lit.head === head && map.side === 1 ? [app.lit.cell] : []),
    point(found) {
      app.pointed = found;
      later();
    },
    redraw: later,
    read(hash) {
      app.state = sound(stateOf(hash, app.state));
      later();
    },
    /** A drawing is in no address: there stands the image that it began as. */
    hash: () => hashOf({ ...app.state, image: app.isDrawing() ? live.began : app.state.image, pins: app.state.pins.filter(({ image }) => image < manifest.images.length) }),
    isDrawing: () => app.state.image >= manifest.images.length,
    image: () => manifest.images[app.state.image] ?? { ...live, predicted: null },
    imageName: (i) => manifest.images[i]?.name ?? (live.changed ? `${live.name}, changed` : live.name),
    /** Whether a head is switched off in what is shown. */
    isOff: (which, { name }, head) => which === 0 && app.isDrawing() && live.heads[name]?.[head] === 0,
    bytesOf: (i) => (i < manifest.images.length ? manifest.images[i].pixels && bytes(i) : live.bytes),
    className: (label) => manifest.class_names?.[label] ?? `class ${label}`,
    storedOverlay: () => manifest.overlays.find(({ name, image }) => name === app.state.overlay && (image === null || image === app.state.image)),
    overlay() {
      if (app.state.overlay === "head") {
        const { layer, head } = app.chosen();
        if (!layer.keyGrid.image || !has(layer, app.selection())) return null;
        const map = app.map(layer, head);
        return { grid: map.grid, values: map.values, signed: isSigned(app.state.mode, app.state.average) };
      }
      const found = app.storedOverlay();
      if (!found) return null;
      const values = unpack(found.values).floats();
      return { grid: found.grid, values, signed: values.some((value) => value < 0) };
    },
    /** Room for the picture, in pixels of the page. */
    tallest: () => (window.innerWidth < 700 ? Math.min(220, window.innerHeight * 0.3) : 420),
    /** The result of the model in the page becomes one more image, of which `began` is the image that was changed. */
    setLive(result, began) {
      const { name, label } = manifest.images[began];
      // A picture of one's own is none of the page's images.
      const own = { name: "your picture", label: null, changed: false };
      Object.assign(live, { began, heads: result.heads }, result.replaced ? own : { name, label, changed: true });
      live.bytes = result.bytes;
      live.probabilities = Array.from(result.probabilities);
      for (const layer of app.layers(0, null)) layer.setLive(liveArrays(result.layers[layer.name]));
      app.set({ image: result.changed ? manifest.images.length : app.state.image, average: "one", step: null });
    },
  };

  const kept = manifest.images.map(() => null);
  const bytes = (i) => (kept[i] ??= unpack(manifest.images[i].pixels).exact());

  const known = {
    models, size, hasPlaces, layers: app.layers, middle: middleOf(manifest, size), overlays: manifest.overlays.map(({ name }) => name),
    /** The drawing, once there is one, is the image after those of the page. */
    get last() {
      return live.bytes ? manifest.images.length : manifest.images.length - 1;
    },
  };
  const sound = (given) => putRight(given, known);

  function later() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      changed();
    });
  }

  return app;
}

/** The layers of a model at each step of its training that the page has; null: those of the page itself. */
function statesOf(manifest) {
  const attending = (layers) => layers.filter(({ kind }) => kind === "attention").map(createLayer);
  return new Map([[null, attending(manifest.layers)], ...manifest.timeline.map(({ step, layers }) => [step, attending(layers)])]);
}

function beginning(manifest, layers, size) {
  const { story } = manifest;
  const at = middleOf(manifest, size);
  return story ? { image: story.image, at, layer: story.layer, head: story.head } : { layer: layers[layers.length - 1].name, at };
}

/** The place that a page begins with: that of its example, or the middle. */
function middleOf({ story }, [height, width]) {
  return story?.at ?? [height >> 1, width >> 1];
}

/** The live model calls the lengths of values by another name. */
function liveArrays(found) {
  if (!found) return null;
  const { probabilities, content, position, valueNorms } = found;
  return Object.fromEntries(Object.entries({ probabilities, content, position, norms: valueNorms }).filter(([, values]) => values));
}
