// NumPy's files: .npy of one array, and .npz, a zip of them without compression.

const encoder = new TextEncoder();

/** Bytes of a .npy file: float32, C order. */
export function npy(values, shape) {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': ${tuple}, }`;
  const padded = text + " ".repeat((64 - ((10 + text.length + 1) % 64)) % 64) + "\n";
  const bytes = new Uint8Array(10 + padded.length + values.length * 4);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, padded.length & 255, padded.length >> 8]);
  bytes.set(encoder.encode(padded), 10);
  bytes.set(new Uint8Array(Float32Array.from(values).buffer), 10 + padded.length);
  return bytes;
}

/** Bytes of a .npz file of {name: {values, shape}}. */
export function npz(arrays) {
  return zip(Object.entries(arrays).map(([name, { values, shape }]) => [`${name}.npy`, npy(values, shape)]));
}

/** A zip file of [name, bytes] pairs, stored as they are. */
function zip(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [name, bytes] of files) {
    const letters = encoder.encode(name);
    const about = [20, 0x0800, 0, 0, 0x21]; // version, names are UTF-8, no compression, midnight, 1 January 1980
    const sizes = [crc32(bytes), bytes.length, bytes.length];
    const head = record(0x04034b50, about, sizes, [letters.length, 0]);
    parts.push(head, letters, bytes);
    directory.push(record(0x02014b50, [20, ...about], sizes, [letters.length, 0, 0, 0, 0], [0, offset]), letters);
    offset += head.length + letters.length + bytes.length;
  }
  const length = directory.reduce((total, each) => total + each.length, 0);
  const end = record(0x06054b50, [0, 0, files.length, files.length], [length, offset], [0]);
  return joined([...parts, ...directory, end]);
}

/** A signature, then runs of 16-bit and 32-bit numbers in turn. */
function record(signature, ...runs) {
  const size = 4 + runs.reduce((total, run, i) => total + run.length * (i % 2 ? 4 : 2), 0);
  const view = new DataView(new ArrayBuffer(size));
  view.setUint32(0, signature, true);
  let at = 4;
  runs.forEach((run, i) => {
    for (const value of run) {
      if (i % 2) view.setUint32(at, value, true);
      else view.setUint16(at, value, true);
      at += i % 2 ? 4 : 2;
    }
  });
  return new Uint8Array(view.buffer);
}

function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((total, each) => total + each.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

let table = null;

function crc32(bytes) {
  table ??= Uint32Array.from({ length: 256 }, (_, n) => {
    let c = n;
    for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
    return c;
  });
  let crc = 0xffffffff;
  for (const byte of bytes) crc = table[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
