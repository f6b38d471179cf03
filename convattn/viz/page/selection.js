// What is selected, made numbers: for a layer and a head the map that a tile shows.
//
// A selection has `at` ("all", [row, column], [row, column, last row, last column], or {token}), `direction` ("out":
// what it looks at; "in": who looks at it), `average` ("one", "mean", "difference"), `image`, `mode` and `s`.

import { cellAt, cellsIn } from "./geometry.js";

/** Whether a mode's values lie around zero, and not above it. */
export function isSigned(mode, average) {
  return average === "difference" || mode === "logits" || mode === "content" || mode === "position";
}

/** Whether values of a mode are added over queries, rather than averaged. */
function adds(mode) {
  return mode === "probabilities" || mode === "norm_weighted";
}

/** Whether a layer has what is selected: the mode, and maps of the image. */
export function has(layer, { mode, average, image }) {
  return layer.modes.includes(mode) && (average === "mean" || layer.hasImage(image));
}

/** The tokens, prefix included, that a selection means in a grid; null: all. */
export function tokensOf(layer, grid, at) {
  if (at === "all") return null;
  if (at.token !== undefined) return at.token < layer.prefix ? [at.token] : [];
  if (at.length === 4) return cellsIn(grid, at).map((cell) => cell + layer.prefix);
  const cell = cellAt(grid, at[0], at[1]);
  return cell === null ? [] : [cell + layer.prefix];
}

/** Cells of a grid that a selection means; none where all are meant. */
export function cellsOf(layer, grid, at) {
  return (tokensOf(layer, grid, at) ?? []).filter((token) => token >= layer.prefix).map((token) => token - layer.prefix);
}

/** One query's row with the average over images that is asked for. */
export function averagedRow(layer, head, query, { mode, average, image, s }) {
  if (average === "one") return layer.row(mode, image, head, query, s);
  const mean = new Float32Array(layer.keys);
  for (let each = 0; each < layer.images; each++) {
    const values = layer.row(mode, each, head, query, s);
    for (let i = 0; i < mean.length; i++) mean[i] += values[i] / layer.images;
  }
  if (average === "mean") return mean;
  return layer.row(mode, image, head, query, s).map((value, i) => value - mean[i]);
}

/** All rows of a head, [queries, keys]; the last ones asked for are kept, since the pointer moves over the same. */
function rowsOf(layer, head, selection) {
  const { mode, average, image, s } = selection;
  const word = [mode, average, average === "mean" ? "" : image, s].join();
  const kept = layer.kept.get(head);
  if (kept?.word === word) return kept.rows;
  const rows = new Float32Array(layer.queries * layer.keys);
  for (let query = 0; query < layer.queries; query++) rows.set(averagedRow(layer, head, query, selection), query * layer.keys);
  layer.kept.set(head, { word, rows });
  return rows;
}

/**
 * The map of a head: {grid, side: 0: of queries, 1: of keys, values: Float32Array of the grid's cells, prefix: of the
 * prefix tokens}. Cells that are never seen are nan.
 */
export function mapOf(layer, head, selection) {
  const received = selection.at === "all";
  const inward = selection.direction === "in" && !received;
  const found = inward ? lookedFrom(layer, head, selection) : lookedAt(layer, head, selection, received);
  return { grid: inward ? layer.queryGrid : layer.keyGrid, side: inward ? 0 : 1, ...found };
}

/** What the selected queries look at: the mean of their rows, or of all queries the sum. */
function lookedAt(layer, head, selection, received) {
  const queries = tokensOf(layer, layer.queryGrid, selection.at) ?? range(layer.queries);
  const rows = received ? rowsOf(layer, head, selection) : null;
  const total = new Float32Array(layer.prefix + layer.keyGrid.height * layer.keyGrid.width).fill(NaN);
  const counts = new Int32Array(total.length);
  for (const query of queries) {
    const row = rows ? rows.subarray(query * layer.keys, (query + 1) * layer.keys) : averagedRow(layer, head, query, selection);
    for (let key = 0; key < row.length; key++) {
      const place = placeOf(layer, query, key);
      if (place === null) continue;
      total[place] = counts[place] ? total[place] + row[key] : row[key];
      counts[place] += 1;
    }
  }
  // A mean over the selected queries: a key that one of them never sees has weight 0 there, but no logit.
  const summed = received && adds(selection.mode);
  if (!summed) {
    for (let i = 0; i < total.length; i++) total[i] /= adds(selection.mode) ? queries.length : counts[i] || 1;
  }
  return { prefix: total.subarray(0, layer.prefix), values: total.subarray(layer.prefix) };
}

/** Who looks at the selected keys: each query's weight on them, summed; of logits the mean. */
function lookedFrom(layer, head, selection) {
  const wanted = new Set(tokensOf(layer, layer.keyGrid, selection.at));
  const values = new Float32Array(layer.queries).fill(NaN);
  const rows = rowsOf(layer, head, selection);
  for (let query = 0; query < layer.queries; query++) {
    let count = 0;
    let total = 0;
    for (const key of keysIn(layer, query, wanted)) {
      total += rows[query * layer.keys + key];
      count += 1;
    }
    if (count) values[query] = adds(selection.mode) ? total : total / count;
  }
  return { prefix: values.subarray(0, layer.prefix), values: values.subarray(layer.prefix) };
}

/** The numbers of a query's keys that lie in some places. */
function keysIn(layer, query, wanted) {
  if (!layer.keyCells) return wanted;
  return range(layer.keys).filter((key) => wanted.has(placeOf(layer, query, key)));
}

/** Where a query's key lies: a prefix token, or a cell counted after those; null: it is none. */
export function placeOf(layer, query, key) {
  if (!layer.keyCells || key < layer.prefix || query < layer.prefix) return key;
  const width = layer.description.key_cells.shape[1];
  const cell = layer.keyCells[(query - layer.prefix) * width + key - layer.prefix];
  return cell < 0 ? null : cell + layer.prefix;
}

function range(length) {
  return Array.from({ length }, (_, i) => i);
}
