// Cells drawn as cells: a grid of colours with its lines, never smoothed, and outlines around the chosen ones.

import { colourOf } from "./colours.js";
import { boxOf, extent } from "./geometry.js";

const small = document.createElement("canvas");

/** Makes a canvas as many device pixels large as it is on the screen, and gives {context, width, height, ratio}. */
export function prepared(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== across || canvas.height !== down) {
    canvas.width = across;
    canvas.height = down;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, across, down);
  context.imageSmoothingEnabled = false;
  return { context, width: across, height: down, ratio };
}

/** Fills the cells of a grid with the colours of their values; `alpha` of 0 to 1 lets what is below shine through. */
export function drawCells(surface, grid, values, scale, alpha = 1) {
  const { context } = surface;
  const pixels = new ImageData(grid.width, grid.height);
  for (let cell = 0; cell < values.length; cell++) {
    const colour = colourOf(scale, values[cell]);
    if (colour === null) continue;
    pixels.data.set(colour, cell * 4);
    pixels.data[cell * 4 + 3] = 255 * alpha;
  }
  small.width = grid.width;
  small.height = grid.height;
  small.getContext("2d").putImageData(pixels, 0, 0);
  const [down, across] = scaleTo(surface, grid);
  context.drawImage(
    small, grid.origin[1] * across, grid.origin[0] * down,
    grid.width * grid.stride[1] * across, grid.height * grid.stride[0] * down,
  );
}

/** Lines between the cells, where these are large enough to leave room for them. */
export function drawLines(surface, grid, colour, smallest = 5) {
  const { context, width, height, ratio } = surface;
  const [down, across] = scaleTo(surface, grid);
  if (Math.min(grid.stride[0] * down, grid.stride[1] * across) < smallest * ratio) return;
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.beginPath();
  for (let row = 1; row < grid.height; row++) {
    const y = Math.round((grid.origin[0] + row * grid.stride[0]) * down) + 0.5;
    context.moveTo(0, y);
    context.lineTo(width, y);
  }
  for (let column = 1; column < grid.width; column++) {
    const x = Math.round((grid.origin[1] + column * grid.stride[1]) * across) + 0.5;
    context.moveTo(x, 0);
    context.lineTo(x, height);
  }
  context.stroke();
}

/** A black line and a white one (or of another light colour) around some cells of a grid, seen on any colour. */
export function drawOutlines(surface, grid, cells, thickness = 1, light = "#fff") {
  const { context, ratio } = surface;
  const [down, across] = scaleTo(surface, grid);
  for (const cell of cells) {
    const box = boxOf(grid, cell);
    const [x, y] = [Math.round(box.left * across), Math.round(box.top * down)];
    const [w, h] = [Math.round(box.right * across) - x, Math.round(box.bottom * down) - y];
    const inset = Math.min(thickness * ratio, Math.max(1, w / 4), Math.max(1, h / 4));
    context.lineWidth = inset;
    context.strokeStyle = "#000";
    context.strokeRect(x - inset / 2, y - inset / 2, w + inset, h + inset);
    context.strokeStyle = light;
    context.strokeRect(x + inset / 2, y + inset / 2, w - inset, h - inset);
  }
}

/** A picture of bytes [height, width, 3], each pixel a square. */
export function drawPicture(surface, bytes, height, width) {
  const pixels = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) pixels.data[i * 4 + c] = bytes[i * 3 + c];
    pixels.data[i * 4 + 3] = 255;
  }
  small.width = width;
  small.height = height;
  small.getContext("2d").putImageData(pixels, 0, 0);
  surface.context.drawImage(small, 0, 0, surface.width, surface.height);
}

/** Device pixels of one unit of the grid, down and across. */
function scaleTo(surface, grid) {
  const [height, width] = extent(grid);
  return [surface.height / height, surface.width / width];
}
