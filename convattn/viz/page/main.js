// Starts the page.
import { unpack } from "./unpack.js";

const manifest = JSON.parse(document.getElementById("manifest").textContent);
document.getElementById("page").textContent = manifest.title;
window.convattn = { manifest, unpack };
