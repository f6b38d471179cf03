// What one draws with, and how a picture of one's own comes in.

import { buttonsOf, freshId, make } from "./dom.js";
import { button } from "./live_parts.js";
import { decoded, modelBytes } from "./live_picture.js";

/** Tools, brush and ink, and ways back. */
export function toolbar({ drawing, canvas, ink, changed, restart, attends, width }) {
  const tools = [
    ["pen", "pen", "paints with the ink"], ["eraser", "eraser", "paints the picture's background"],
    ["fill", "grey out", "paints the mean of the training data"],
  ];
  if (attends) {
    tools.push(["hide", "hide", "no query attends to these cells, at any layer"]);
    tools.push(["show", "show", "attention sees them again"]);
  }
  const tool = buttonsOf("tool", tools, (chosen) => { canvas.tool = chosen; tool.press(chosen); });
  const sizes = [1, 2, 3, 5].map((size) => [size, String(size), size > 1 ? `${size} pixels` : "one pixel"]);
  const size = buttonsOf("brush", sizes, (chosen) => { canvas.size = chosen; size.press(chosen); });
  canvas.size = width < 16 ? 1 : 2;
  tool.press(canvas.tool);
  size.press(canvas.size);
  return make("div", { className: "live-tools" }, tool.element, size.element, ink.element,
    button("undo", () => { drawing.undo(); changed(); }),
    button("clear", () => { drawing.clear(); changed(); }),
    button("as it was", restart, { title: "the picture as it began, everything on and nothing hidden" }),
  );
}

/** What the pen paints: a grey, or a colour; {element, update}. */
export function inkOf(drawing) {
  const id = freshId("ink");
  const colour = drawing.channels === 3;
  const input = make("input", { id, type: colour ? "color" : "range", ...(colour ? {} : { min: 0, max: 255 }) });
  input.addEventListener("input", () => {
    const hexadecimal = () => [1, 3, 5].map((at) => parseInt(input.value.slice(at, at + 2), 16));
    drawing.inks.pen = colour ? hexadecimal() : [Number(input.value)];
  });
  function update() {
    const { pen } = drawing.inks;
    input.value = colour ? `#${pen.map((byte) => byte.toString(16).padStart(2, "0")).join("")}` : pen[0];
  }
  return { element: make("div", { className: "field" }, make("label", { htmlFor: id }, "ink"), input), update };
}

/** A picture of one's own, by a file or dropped: made the model's size as the model's pictures are. */
export function pictureInput({ drawing, description, changed, status }) {
  const [height, width, channels] = description.image_shape;
  const input = make("input", { type: "file", accept: "image/*" });
  const hint = `It becomes ${height} × ${width} pixels${channels === 1 ? ", grey" : ""}; it stays on this computer.`;
  const element = make("label", { className: "live-file" },
    "a picture of your own, or drop one here ", input, make("small", { className: "muted" }, hint));

  async function take(file) {
    try {
      drawing.replace(modelBytes(await decoded(file), description.preprocessing));
      changed();
    } catch (error) {
      status.textContent = error.message;
    }
  }
  input.addEventListener("change", () => input.files[0] && take(input.files[0]));

  function acceptDropsOn(target) {
    target.addEventListener("dragover", (event) => {
      event.preventDefault();
      target.classList.add("live-dropping");
    });
    target.addEventListener("dragleave", () => target.classList.remove("live-dropping"));
    target.addEventListener("drop", (event) => {
      event.preventDefault();
      target.classList.remove("live-dropping");
      const file = event.dataTransfer.files[0];
      if (file) take(file);
    });
  }
  return { element, acceptDropsOn };
}
