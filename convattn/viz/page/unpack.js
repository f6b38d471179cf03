// Arrays out of the blobs that packing.py writes: value = stored * scale + offset, where the two largest codes of
// uint8 and uint16 are nan and -inf. What is stored stays packed in memory; values are computed for the part asked for.

const STORES = { uint8: Uint8Array, uint16: Uint16Array, int32: Int32Array, float16: Uint16Array, float32: Float32Array };

/** The packed array of a blob: {shape, length, floats(start, end), exact}. Its data is decoded on first use. */
export function unpack(blob) {
  const length = blob.shape.reduce((product, each) => product * each, 1);
  let stored = null;
  const decoded = () => {
    if (stored === null) stored = new STORES[blob.dtype](decodeBase64(blob.data).buffer);
    return stored;
  };
  return {
    shape: blob.shape,
    length,
    /** Float32Array of the values from start up to end, counted row by row. */
    floats(start = 0, end = length) {
      const codes = decoded();
      if (blob.dtype === "float32") return codes.slice(start, end);
      if (blob.exact && blob.dtype !== "float16") return Float32Array.from(codes.subarray(start, end));
      const values = new Float32Array(end - start);
      if (blob.dtype === "float16") {
        const table = halves();
        for (let i = start; i < end; i++) values[i - start] = table[codes[i]];
        return values;
      }
      const nan = blob.dtype === "uint8" ? 255 : 65535;
      for (let i = start; i < end; i++) {
        const code = codes[i];
        values[i - start] = code < nan - 1 ? code * blob.scale + blob.offset : code === nan ? NaN : -Infinity;
      }
      return values;
    },
    /** The whole numbers themselves, of a blob that holds such: Uint8Array or Int32Array. */
    exact: () => decoded(),
  };
}

/** Float32Array of all values of a blob. */
export function floats(blob) {
  return unpack(blob).floats();
}

function decodeBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

let everyHalf = null;

/** The value of every 16-bit floating point number (IEEE 754 binary16). */
function halves() {
  if (everyHalf) return everyHalf;
  everyHalf = new Float32Array(65536);
  for (let code = 0; code < 65536; code++) {
    const sign = code & 0x8000 ? -1 : 1;
    const exponent = (code >> 10) & 31;
    const fraction = code & 1023;
    if (exponent === 31) everyHalf[code] = fraction ? NaN : sign * Infinity;
    else if (exponent === 0) everyHalf[code] = sign * fraction * 2 ** -24;
    else everyHalf[code] = sign * (1024 + fraction) * 2 ** (exponent - 25);
  }
  return everyHalf;
}
