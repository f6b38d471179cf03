// The kernels of the convolution stages, in the same view: what one output pixel reads, and each tap's norm.

import { drawCells, drawLines, drawOutlines, prepared } from "./cells.js";
import { scaleOf, short } from "./colours.js";
import { make, placeIn } from "./dom.js";
import { cellAt } from "./geometry.js";
import { whose } from "./names.js";
import { unpack } from "./unpack.js";

const MOST = 8;

/** All of them; gives {element, update()}; null: the page has none. */
export function createConvolutions(app, descriptions) {
  if (!descriptions.length) return null;
  const rows = descriptions.map((description) => row(app, description));
  const heading = make("h2", {}, `Kernels of the convolutions${whose(app, 0)}`);
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
  const channelMaps = description.kernel_names.slice(0, MOST).map((word, i) => ({
    canvas: make("canvas", { role: "img", "aria-label": `kernel of ${word}`, title: word }),
    values: kernels.slice(i * high * wide, (i + 1) * high * wide),
  }));
  const heading = make("h3", {}, make("span", {}, name), " ", make("small", { className: "muted" }, `${description.depthwise ? "depthwise " : ""}${high} × ${wide}, stride ${stride.join(" × ")}, ${channels} channels`));
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

/** The input cells that the output cell of a pixel reads, with the norms of the taps: {grid, values, cell}; null: no cell. */
export function readFrom(description, taps, at) {
  if (!Array.isArray(at)) return null;
  const { grid, input_grid: input, kernel_size: [high, wide] } = description;
  const cell = cellAt(grid, at[0], at[1]);
  if (cell === null) return null;
  const [rows, columns] = [description.rows, description.columns].map((blob) => unpack(blob).exact());
  const [row, column] = [Math.floor(cell / grid.width), cell % grid.width];
  const values = new Float32Array(input.height * input.width).fill(NaN);
  for (let i = 0; i < high; i++) {
    for (let j = 0; j < wide; j++) {
      const [down, across] = [rows[row * high + i], columns[column * wide + j]];
      if (down >= 0 && across >= 0) values[down * input.width + across] = taps[i * wide + j];
    }
  }
  return { grid: input, values, cell };
}
