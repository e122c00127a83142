// Loads the student's int8 file from this server, and classifies what is typed.
import { env, pipeline } from "@huggingface/transformers";

env.allowLocalModels = true; // which is off in browsers
env.allowRemoteModels = false;
env.localModelPath = "/models/";
env.useBrowserCache = false; // the server's file is always the one that runs
env.backends.onnx.wasm.wasmPaths = "/wasm/";

const text = document.getElementById("text");
const labels = document.getElementById("labels");
const status = document.getElementById("status");

function show(found) {
  labels.replaceChildren(
    ...found.flatMap(({ label, score }) => {
      const name = document.createElement("dt");
      name.textContent = label;
      const bar = document.createElement("dd");
      bar.className = "bar";
      const filled = document.createElement("div");
      filled.style.width = `${100 * score}%`;
      bar.append(filled);
      const number = document.createElement("dd");
      number.className = "score";
      number.textContent = score.toFixed(3);
      return [name, bar, number];
    }),
  );
}

function fail(error) {
  status.className = "failed";
  status.textContent = `This did not work: ${error.message ?? error}`;
}

let classify = null;
let busy = false;

// While one text is classified others may be typed: only the last of them is classified next.
async function update() {
  if (busy) return;
  busy = true;
  try {
    let done = null;
    while (text.value !== done) {
      done = text.value;
      const start = performance.now();
      // All labels; longer texts are cut to what the student reads.
      const found = done.trim() ? await classify(done, { top_k: null }) : [];
      if (done !== text.value) continue;
      show(found.toSorted((one, other) => one.label.localeCompare(other.label)));
      status.textContent = done.trim() ? `${(performance.now() - start).toFixed(1)} ms` : "Type something.";
      status.dataset.text = done;
    }
  } catch (error) {
    fail(error);
  } finally {
    busy = false;
  }
}

try {
  classify = await pipeline("text-classification", "student", { dtype: "q8", device: "wasm" });
  text.disabled = false;
  text.addEventListener("input", update);
  await update();
} catch (error) {
  fail(error);
}
