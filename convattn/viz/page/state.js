// What is chosen, in the address bar and back: #image=0&at=3,4&layer=...; docs/explore.md lists the words.

/** This image, the mean of all, or this one minus that. */
export const AVERAGES = ["one", "mean", "difference"];

/** What a page begins with. */
export const FIRST = {
  image: 0, average: "one", at: [0, 0], direction: "out", model: 0, layer: null, head: 0, mode: "probabilities", scale: "each",
  sort: "layer", overlay: "none", step: null, s: 1, weight: null, pins: [],
};

/** The hash of a state. */
export function hashOf(state) {
  const words = [];
  words.push(["image", state.average === "one" ? state.image : state.average]);
  if (state.average !== "one") words.push(["of", state.image]);
  words.push(["at", textOfPlace(state.at)], ["direction", state.direction]);
  if (state.layer !== null) words.push(["layer", state.layer], ["head", state.head]);
  if (state.model) words.push(["model", state.model]);
  words.push(["mode", state.mode], ["scale", state.scale], ["sort", state.sort]);
  if (state.overlay !== "none") words.push(["overlay", state.overlay]);
  if (state.step !== null) words.push(["step", state.step]);
  if (state.s !== 1) words.push(["s", state.s]);
  if (state.weight !== null) words.push(["weight", state.weight]);
  if (state.pins.length) words.push(["pins", state.pins.map(textOfPin).join("!")]);
  return "#" + words.map(([name, value]) => `${name}=${encodeURIComponent(value).replace(/%2F/g, "/").replace(/%2C/g, ",")}`).join("&");
}

/** What a hash says, over a state; words that make no sense are left out. */
export function stateOf(hash, state) {
  const read = { ...state };
  const words = new Map();
  for (const part of hash.replace(/^#/, "").split("&")) {
    const at = part.indexOf("=");
    if (at > 0) words.set(part.slice(0, at), decoded(part.slice(at + 1)));
  }
  const whole = (name) => (/^\d+$/.test(words.get(name) ?? "") ? Number(words.get(name)) : null);
  if (words.has("image")) {
    const average = words.get("image");
    read.average = AVERAGES.includes(average) ? average : "one";
    read.image = whole(read.average === "one" ? "image" : "of") ?? state.image;
  }
  read.at = placeOfText(words.get("at")) ?? state.at;
  read.direction = oneOf(words.get("direction"), ["out", "in"], state.direction);
  read.layer = words.get("layer") ?? state.layer;
  read.head = whole("head") ?? state.head;
  read.model = whole("model") ?? (words.has("layer") ? 0 : state.model);
  read.mode = oneOf(words.get("mode"), ["probabilities", "logits", "content", "position", "norm_weighted"], state.mode);
  read.scale = oneOf(words.get("scale"), ["shared", "each"], state.scale);
  read.sort = words.get("sort") ?? state.sort;
  read.overlay = words.get("overlay") ?? state.overlay;
  read.step = whole("step") ?? state.step;
  const s = Number(words.get("s") ?? NaN);
  read.s = s >= 0 && s <= 2 ? s : state.s;
  read.weight = whole("weight") ?? state.weight;
  read.pins = words.has("pins") ? words.get("pins").split("!").map(pinOfText).filter(Boolean).slice(0, 4) : state.pins;
  return read;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

function oneOf(text, words, otherwise) {
  return words.includes(text) ? text : otherwise;
}

function textOfPlace(at) {
  if (at === "all") return "all";
  return at.token !== undefined ? `token:${at.token}` : at.join(",");
}

function placeOfText(text) {
  if (text === undefined) return null;
  if (text === "all") return "all";
  if (/^token:\d+$/.test(text)) return { token: Number(text.slice(6)) };
  return /^\d+,\d+(,\d+,\d+)?$/.test(text) ? text.split(",").map(Number) : null;
}

/** A pinned selection as text; what is between two of its words is no part of any of them. */
function textOfPin(pin) {
  const words = [pin.image, pin.average, textOfPlace(pin.at), pin.direction, pin.layer, pin.head, pin.mode, pin.s, pin.step ?? "", pin.model];
  return words.map(encodeURIComponent).join(";");
}

function pinOfText(text) {
  const [image, average, place, direction, layer, head, mode, s, step, model] = text.split(";").map(decoded);
  const at = placeOfText(place);
  if (step === undefined || at === null) return null;
  return {
    image: Number(image), average, at, direction, layer, head: Number(head), mode, s: Number(s),
    step: step === "" ? null : Number(step), model: Number(model ?? 0),
  };
}
