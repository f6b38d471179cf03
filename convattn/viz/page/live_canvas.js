// The canvas that one draws on: pixels as cells, by pointer and by keyboard.

import { make, placeIn } from "./dom.js";

const WIDEST = 336;
const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/**
 * {element, draw, tool, size} for a Drawing. `onchange()` is called as the picture changes, `say(text)` with what a
 * reader who sees no picture should know, `point([row, column])` with the pixel one is at, null: none. Arrow keys move,
 * space paints, shift and an arrow key draw a line.
 */
export function drawingCanvas(drawing, { onchange, say, point }) {
  const { height, width, channels } = drawing;
  const scale = Math.max(1, Math.floor(WIDEST / Math.max(width, height)));
  const canvas = make("canvas", {
    className: "live-drawing",
    tabIndex: 0,
    role: "application",
    "aria-label": `Picture of ${height} by ${width} pixels to draw on. ` +
      "Arrow keys move, space paints, shift with an arrow key draws a line.",
  });
  const state = { element: canvas, draw, tool: "pen", size: 1 };
  const cursor = { row: height >> 1, column: width >> 1, seen: false };
  let last = null;

  function draw() {
    const sharp = Math.max(1, Math.round(window.devicePixelRatio || 1));
    const side = scale * sharp;
    canvas.width = width * side;
    canvas.height = height * side;
    canvas.style.maxWidth = `${width * scale}px`;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(pixels(), 0, 0, canvas.width, canvas.height);
    if (scale >= 6) lines(context, side);
    const [down, across] = drawing.block;
    for (let row = 0; row < height; row += down) {
      for (let column = 0; column < width; column += across) {
        if (!drawing.hidden[row * width + column]) continue;
        const [high, wide] = [Math.min(down, height - row), Math.min(across, width - column)];
        hatch(context, column * side, row * side, wide * side, high * side);
      }
    }
    if (cursor.seen) outline(context, side);
  }

  function pixels() {
    const small = document.createElement("canvas");
    small.width = width;
    small.height = height;
    const context = small.getContext("2d");
    const image = context.createImageData(width, height);
    for (let pixel = 0; pixel < width * height; pixel++) {
      const from = pixel * channels;
      for (let c = 0; c < 3; c++) image.data[4 * pixel + c] = drawing.bytes[from + (channels === 3 ? c : 0)];
      image.data[4 * pixel + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    return small;
  }

  function lines(context, side) {
    context.strokeStyle = "rgba(128, 128, 128, 0.35)";
    context.beginPath();
    for (let row = 1; row < height; row++) line(context, 0, row * side, width * side, row * side);
    for (let column = 1; column < width; column++) line(context, column * side, 0, column * side, height * side);
    context.stroke();
  }

  function outline(context, side) {
    for (const [colour, inset] of [["#000", 1], ["#fff", 3]]) {
      context.strokeStyle = colour;
      context.lineWidth = 2;
      context.strokeRect(cursor.column * side + inset, cursor.row * side + inset, side - 2 * inset, side - 2 * inset);
    }
  }

  function place(event) {
    const [down, across] = placeIn(canvas, event);
    return [down * height, across * width];
  }

  function paint(from, to) {
    drawing.stroke(state.tool, from, to, state.size);
    draw();
    onchange();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    cursor.seen = false;
    drawing.begin();
    last = place(event);
    paint(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    point(place(event).map((at, axis) => Math.min(Math.max(Math.floor(at), 0), [height, width][axis] - 1)));
    if (!last) return;
    for (const each of event.getCoalescedEvents ? event.getCoalescedEvents() : [event]) {
      const at = place(each);
      drawing.stroke(state.tool, last, at, state.size);
      last = at;
    }
    draw();
    onchange();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { last = null; });

  canvas.addEventListener("pointerleave", () => point(null));

  canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (!move && event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    cursor.seen = true;
    const from = [cursor.row + 0.5, cursor.column + 0.5];
    if (move) {
      cursor.row = Math.min(Math.max(cursor.row + move[0], 0), height - 1);
      cursor.column = Math.min(Math.max(cursor.column + move[1], 0), width - 1);
    }
    if (!move || event.shiftKey) {
      drawing.begin();
      paint(move ? from : [cursor.row + 0.5, cursor.column + 0.5], [cursor.row + 0.5, cursor.column + 0.5]);
    } else draw();
    point([cursor.row, cursor.column]);
    const at = cursor.row * width + cursor.column;
    const bytes = Array.from(drawing.bytes.subarray(at * channels, (at + 1) * channels)).join(", ");
    say(`row ${cursor.row}, column ${cursor.column}: ${bytes}${drawing.hidden[at] ? ", hidden" : ""}`);
  });
  canvas.addEventListener("focus", () => {
    cursor.seen = canvas.matches(":focus-visible");
    draw();
  });
  canvas.addEventListener("blur", () => {
    cursor.seen = false;
    point(null);
    draw();
  });
  draw();
  return state;
}

function line(context, x1, y1, x2, y2) {
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
}

/** A cell that attention does not see: crossed out, in black and white, so that it shows on both. */
function hatch(context, x, y, wide, high) {
  for (const [colour, width] of [["#000", 3], ["#fff", 1]]) {
    context.strokeStyle = colour;
    context.lineWidth = width * Math.min(Math.max(1, Math.min(wide, high) / 24), 2);
    context.beginPath();
    line(context, x, y, x + wide, y + high);
    line(context, x + wide, y, x, y + high);
    context.stroke();
  }
}
