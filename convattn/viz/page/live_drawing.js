// The picture that one draws, as data: bytes, what attention may not see, and what can be undone.

const MOST_UNDONE = 100;

/** The byte of each channel that most of the border has: what an eraser leaves. */
export function paperOf(bytes, height, width, channels) {
  const border = [];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (row === 0 || column === 0 || row === height - 1 || column === width - 1) border.push(row * width + column);
    }
  }
  return Array.from({ length: channels }, (_, channel) => {
    const sorted = border.map((pixel) => bytes[pixel * channels + channel]).sort((one, two) => one - two);
    return sorted[sorted.length >> 1];
  });
}

/**
 * A drawing of height x width pixels. Tools: "pen", "eraser" and "fill" set pixels to the bytes in `inks` of that name,
 * softly at the rim of a brush; "hide" and "show" say what attention may see, whole cells of `block` pixels at a time.
 */
export class Drawing {
  constructor({ height, width, channels, block = [1, 1] }) {
    Object.assign(this, { height, width, channels, block });
    this.inks = {};
    this.past = [];
    this.start(new Uint8ClampedArray(height * width * channels));
  }

  /** Another picture to begin with; nothing of the old one stays. */
  start(bytes) {
    this.original = Uint8ClampedArray.from(bytes);
    this.bytes = this.original.slice();
    this.hidden = new Uint8Array(this.height * this.width);
    this.replaced = false;
    this.past = [];
    const paper = this.lookForPaper();
    const ink = paper.reduce((one, two) => one + two, 0) / paper.length < 128 ? 255 : 0;
    this.inks.pen = paper.map(() => ink);
  }

  lookForPaper() {
    this.inks.eraser = paperOf(this.bytes, this.height, this.width, this.channels);
    return this.inks.eraser;
  }

  get changedPixels() {
    let count = 0;
    for (let pixel = 0; pixel < this.hidden.length; pixel++) {
      const from = pixel * this.channels;
      let differs = false;
      for (let at = from; at < from + this.channels; at++) differs ||= this.bytes[at] !== this.original[at];
      count += differs ? 1 : 0;
    }
    return count;
  }

  get hiddenPixels() {
    return this.hidden.reduce((one, two) => one + two, 0);
  }

  /** What follows up to the next call is undone in one piece. */
  begin() {
    this.past.push({ bytes: this.bytes.slice(), hidden: this.hidden.slice(), replaced: this.replaced });
    if (this.past.length > MOST_UNDONE) this.past.shift();
    this.covered = new Float32Array(this.hidden.length);
  }

  undo() {
    const before = this.past.pop();
    if (before) Object.assign(this, before);
  }

  /** All pixels as the eraser leaves them, nothing hidden. */
  clear() {
    this.replace(this.bytes.map((_, at) => this.inks.eraser[at % this.channels]));
  }

  /** Another picture, which can be undone. */
  replace(bytes) {
    this.begin();
    this.bytes = Uint8ClampedArray.from(bytes);
    this.hidden = new Uint8Array(this.hidden.length);
    this.replaced = true;
    this.lookForPaper();
  }

  /** A stroke from one place to another, each [row, column] in pixels, with a round brush so many pixels wide. */
  stroke(tool, from, to, size) {
    const steps = Math.max(1, Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])));
    for (let step = 0; step <= steps; step++) {
      const at = from.map((value, axis) => value + ((to[axis] - value) * step) / steps);
      if (tool === "hide" || tool === "show") this.setHidden(at, tool === "hide" ? 1 : 0);
      else this.dab(this.inks[tool], at, size);
    }
  }

  setHidden([row, column], value) {
    const [down, across] = this.block;
    const top = Math.floor(Math.floor(row) / down) * down;
    const left = Math.floor(Math.floor(column) / across) * across;
    for (let y = Math.max(top, 0); y < Math.min(top + down, this.height); y++) {
      const first = y * this.width;
      this.hidden.fill(value, first + Math.max(left, 0), first + Math.min(left + across, this.width));
    }
  }

  dab(ink, [row, column], size) {
    // A brush of one pixel covers the one it is in; a wider one is round about the place itself.
    const [middleRow, middleColumn] = size === 1 ? [Math.floor(row) + 0.5, Math.floor(column) + 0.5] : [row, column];
    const before = this.past[this.past.length - 1].bytes;
    for (let y = Math.max(Math.floor(row - size), 0); y <= Math.min(row + size, this.height - 1); y++) {
      for (let x = Math.max(Math.floor(column - size), 0); x <= Math.min(column + size, this.width - 1); x++) {
        const distance = Math.hypot(y + 0.5 - middleRow, x + 0.5 - middleColumn);
        const pixel = y * this.width + x;
        const cover = Math.min(Math.max(size / 2 + 0.5 - distance, 0), 1);
        if (cover <= this.covered[pixel]) continue;
        this.covered[pixel] = cover;
        for (let c = 0; c < this.channels; c++) {
          const at = pixel * this.channels + c;
          this.bytes[at] = before[at] + (ink[c] - before[at]) * cover;
        }
      }
    }
  }
}
