// node serve.mjs STUDENT [PORT]: this page, the library of node_modules and a folder of `ted export --int8`, on this
// machine only.
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".wasm": "application/wasm",
};

/** The folder of an installed package. */
function packageFolder(name, from) {
  const places = createRequire(from).resolve.paths(name).map((place) => path.join(place, name));
  const found = places.find((place) => existsSync(place));
  if (!found) throw new Error(`${name}: not installed; run npm install in ${HERE}`);
  return found;
}

/** What the page may ask for: the start of an address -> a folder. */
function folders(student) {
  for (const file of ["config.json", "tokenizer.json", "onnx/model_quantized.onnx"]) {
    if (!existsSync(path.join(student, file))) {
      throw new Error(`${student}: expected a folder of \`ted export --int8\`, got one without ${file}`);
    }
  }
  const library = packageFolder("@huggingface/transformers", path.join(HERE, "x.mjs"));
  const runtime = packageFolder("onnxruntime-web", path.join(library, "x.mjs"));
  return {
    "/models/student/": path.resolve(student),
    "/library/": path.join(library, "dist"),
    "/wasm/": path.join(runtime, "dist"),
    "/": HERE,
  };
}

/** A server of the page for a student; resolves once it listens. */
export async function serve(student, port = 0) {
  const places = folders(student);
  const server = createServer((request, response) => {
    const name = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    const start = Object.keys(places).find((place) => name.startsWith(place));
    const file = path.join(places[start], name === "/" ? "index.html" : name.slice(start.length));
    const inside = file.startsWith(places[start] + path.sep);
    if (!inside || !existsSync(file) || !statSync(file).isFile()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      "Content-Type": TYPES[path.extname(file)] ?? "application/octet-stream",
      "Content-Length": statSync(file).size,
    });
    createReadStream(file).pipe(response);
  });
  return new Promise((resolve, reject) => {
    server.on("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [student, port = "8000"] = process.argv.slice(2);
  try {
    if (!student) throw new Error("expected a folder of `ted export --int8`; write node serve.mjs STUDENT [PORT]");
    const server = await serve(student, Number(port));
    console.log(`http://127.0.0.1:${server.address().port}/`);
  } catch (error) {
    console.error(error.message);
    process.exit(2);
  }
}
