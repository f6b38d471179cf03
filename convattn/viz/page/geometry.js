// Where the cells of a grid lie in the image, as analysis.Grid has it. Without an image, cells are tokens in a row.

/** Height and width of what a grid lies in, in its own units. */
export function extent(grid) {
  return grid.image ?? [grid.height * grid.stride[0], grid.width * grid.stride[1]];
}

/** {top, left, bottom, right} of a cell in pixels, cut off at the image's border. */
export function boxOf(grid, cell) {
  const [height, width] = extent(grid);
  const row = Math.floor(cell / grid.width);
  const column = cell % grid.width;
  const within = (value, most) => Math.min(Math.max(value, 0), most);
  return {
    top: within(grid.origin[0] + row * grid.stride[0], height),
    left: within(grid.origin[1] + column * grid.stride[1], width),
    bottom: within(grid.origin[0] + (row + 1) * grid.stride[0], height),
    right: within(grid.origin[1] + (column + 1) * grid.stride[1], width),
  };
}

/** The cell that the middle of a pixel belongs to; null: none. */
export function cellAt(grid, row, column) {
  const i = Math.floor((row + 0.5 - grid.origin[0]) / grid.stride[0]);
  const j = Math.floor((column + 0.5 - grid.origin[1]) / grid.stride[1]);
  return i >= 0 && i < grid.height && j >= 0 && j < grid.width ? i * grid.width + j : null;
}

/** All cells that hold the middle of some pixel of the rectangle [row, column, last row, last column], in order. */
export function cellsIn(grid, [top, left, bottom, right]) {
  const cells = new Set();
  for (let row = top; row <= bottom; row++) {
    for (let column = left; column <= right; column++) {
      const cell = cellAt(grid, row, column);
      if (cell !== null) cells.add(cell);
    }
  }
  return [...cells].sort((one, other) => one - other);
}

/** What a cell is called: its row and column, or the name of its token. */
export function cellName(grid, cell, tokens) {
  if (!grid.image && grid.height === 1) return tokens?.[cell] ?? `token ${cell}`;
  return `row ${Math.floor(cell / grid.width)}, column ${cell % grid.width}`;
}
