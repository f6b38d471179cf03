// The kernels of the convolution stages, in the same view: what one output pixel reads, and each tap's norm.

import { drawCells, drawLines, drawOutlines, prepared } from "./cells.js";
import { scaleOf, short } from "./colours.js";
import { make, placeIn } from "./dom.js";
import { cellAt } from "./geometry.js";
import { unpack } from "./unpack.js";

const MOST = 8;

/** All of them; gives {element, update()}; null: the page has none. */
export function createConvolutions(app, descriptions) {
  if (!descriptions.length) return null;
  const rows = descriptions.map((description) => row(app, description));
  const heading = make("h2", {}, "Kernels of the convolutions");
  const text = make("p", { className: "muted small" },
    "Left: the pixels that one output cell at the chosen pixel reads, coloured by the norm of the tap over all channels. Then the taps themselves, and the channels with the largest kernels.");
  return { element: make("section", { className: "convolutions" }, heading, text, ...rows.map(({ element }) => element)), update: () => rows.forEach((each) => each.update()) };
}

function row(app, description) {
  const { name, kernel_size: [high, wide], stride, channels } = description;
  const taps = unpack(description.taps).floats();
  const kernels = unpack(description.kernels).floats();
  const kernelGrid = { height: high, width: wide, stride: [1, 1], origin: [0, 0], image: null };
  const reads = make("canvas", { role: "img", "aria-label": `${name}: what one output cell reads` });
  const norms = make("canvas", { role: "img", "aria-label": `${name}: norm of each tap, ${Array.from(taps, short).join(", ")}` });
  const scale = scaleOf([taps], false);
  norms.addEventListener("pointermove", (event) => {
    const [down, across] = placeIn(norms, event);
    const cell = cellAt(kernelGrid, down * high - 0.5, across * wide - 0.5);
    if (cell !== null) app.point({ grid: null, cell, event, text: `tap ${Math.floor(cell / wide)}, ${cell % wide}: ${short(taps[cell])}` });
  });
  norms.addEventListener("pointerleave", () => app.point(null));
  const largest = channelsByNorm(kernels, channels, high * wide).slice(0, MOST);
  const channelMaps = largest.map((channel) => ({
    canvas: make("canvas", { role: "img", "aria-label": `kernel of channel ${channel}`, title: `channel ${channel}` }),
    values: kernels.slice(channel * high * wide, (channel + 1) * high * wide),
  }));
  const heading = make("h3", {}, make("span", {}, name), " ", make("small", { className: "muted" }, `depthwise ${high} × ${wide}, stride ${stride.join(" × ")}, ${channels} channels`));
  const element = make("section", { className: "layer" }, heading, make("div", { className: "row kernels" }, reads, norms, ...channelMaps.map(({ canvas }) => canvas)));
  let drawn = false;

  function update() {
    const found = readFrom(description, taps, app.selection().at);
    const surface = prepared(reads, 92, (92 * description.grid.image[0]) / description.grid.image[1]);
    if (found) {
      drawCells(surface, found.grid, found.values, scale);
      drawLines(surface, found.grid, "rgba(128, 128, 128, 0.35)", 4);
      drawOutlines(surface, description.grid, [found.cell]);
    }
    if (drawn) return;
    drawn = true;
    drawSmall(norms, kernelGrid, taps, scale, 56);
    for (const { canvas, values } of channelMaps) drawSmall(canvas, kernelGrid, values, scaleOf([values], true), 32);
  }
  return { element, update };
}

function drawSmall(canvas, grid, values, scale, across) {
  const surface = prepared(canvas, across, (across * grid.height) / grid.width);
  drawCells(surface, grid, values, scale);
  drawLines(surface, grid, "rgba(128, 128, 128, 0.35)", 4);
}

function channelsByNorm(kernels, channels, size) {
  const norms = Array.from({ length: channels }, (_, channel) => {
    let total = 0;
    for (let tap = 0; tap < size; tap++) total += kernels[channel * size + tap] ** 2;
    return [total, channel];
  });
  return norms.sort((one, other) => other[0] - one[0]).map(([, channel]) => channel);
}

/**
 * The input cells that the output cell of a pixel reads, with the norms of the taps: {grid, values, cell}; null: no cell.
 * Padding is as XLA's SAME has it: what is left over lies behind.
 */
export function readFrom(description, taps, at) {
  if (!Array.isArray(at)) return null;
  const { grid, stride, kernel_size: size } = description;
  const cell = cellAt(grid, at[0], at[1]);
  if (cell === null) return null;
  const step = [grid.stride[0] / stride[0], grid.stride[1] / stride[1]];
  const input = {
    height: Math.ceil(grid.image[0] / step[0]), width: Math.ceil(grid.image[1] / step[1]), stride: step, origin: grid.origin, image: grid.image,
  };
  const values = new Float32Array(input.height * input.width).fill(NaN);
  const place = [Math.floor(cell / grid.width), cell % grid.width];
  const first = [0, 1].map((axis) => {
    const cells = axis ? input.width : input.height;
    const outputs = axis ? grid.width : grid.height;
    const padding = Math.max((outputs - 1) * stride[axis] + size[axis] - cells, 0);
    return place[axis] * stride[axis] - Math.floor(padding / 2);
  });
  for (let i = 0; i < size[0]; i++) {
    for (let j = 0; j < size[1]; j++) {
      const [row, column] = [first[0] + i, first[1] + j];
      if (row >= 0 && row < input.height && column >= 0 && column < input.width) values[row * input.width + column] = taps[i * size[1] + j];
    }
  }
  return { grid: input, values, cell };
}
