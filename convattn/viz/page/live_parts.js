// Small pieces that the panel of the live model is put together from.

/** An element with properties, data- and aria- attributes, and children; texts are only ever text. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function button(label, onclick, properties = {}) {
  return make("button", { type: "button", onclick, ...properties }, label);
}

/** A button that is on or off, and says so. */
export function toggle(label, pressed, onclick, properties = {}) {
  return button(label, onclick, { "aria-pressed": String(pressed), ...properties });
}

export function setPressed(element, pressed) {
  element.setAttribute("aria-pressed", String(pressed));
}

/** Of several buttons of which one is on, such as tools: {element, value}; arrow keys are not needed to reach them. */
export function choice(label, options, chosen, onchange) {
  const buttons = options.map(([value, text, title]) => toggle(text, value === chosen, () => choose(value), { title }));
  const group = make("div", { className: "live-choice", role: "group", "aria-label": label }, ...buttons);
  function choose(value) {
    options.forEach(([each], at) => setPressed(buttons[at], each === value));
    onchange(value);
  }
  return group;
}

/** A number as a reader wants it: 0.031, 12.4, -3.10. */
export function shown(value) {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 || size === 0 ? 2 : 3);
}

export function percent(share) {
  return share > 0.999 && share < 1 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`;
}

/** Blue below 0, orange above, paler the nearer; as red, green, blue and how opaque, 0 to 255. */
export function signedColour(value, largest) {
  const strength = largest > 0 ? Math.min(Math.abs(value) / largest, 1) : 0;
  const [red, green, blue] = value < 0 ? [30, 110, 190] : [214, 104, 16];
  return [red, green, blue, Math.round(255 * strength)];
}

/** A canvas of as many pixels as numbers [rows * columns], drawn in `signedColour`; made large by its style. */
export function signedCanvas(values, rows, columns, largest) {
  const canvas = make("canvas", { width: columns, height: rows, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  values.forEach((value, at) => image.data.set(signedColour(value, largest), 4 * at));
  context.putImageData(image, 0, 0);
  return canvas;
}
