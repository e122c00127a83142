// node check.mjs STUDENT [ANSWERS.json] [SCREENSHOT.png]: the page in a headless Chromium that reaches nothing but this
// machine. With ANSWERS (of answers.py) its labels and scores are compared with those of onnxruntime in Python.
import { existsSync, readFileSync } from "node:fs";
import { chromium } from "playwright-core";
import { serve } from "./serve.mjs";

const LARGEST = 0.05; // int8 adds up differently in WebAssembly and on a CPU
const TEXTS = ["a warm and funny film that never loses its nerve", "two hours of boredom and bad jokes"];
const [student, ...others] = process.argv.slice(2);
const answers = others.find((name) => name.endsWith(".json"));
const screenshot = others.find((name) => name.endsWith(".png"));
const wanted = answers ? JSON.parse(readFileSync(answers, "utf8")) : TEXTS.map((text) => ({ text }));
const browser_file = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/google-chrome"].find((file) => existsSync(file));

const server = await serve(student).catch((error) => {
  console.error(error.message);
  process.exit(2);
});
const place = `http://127.0.0.1:${server.address().port}/`;
const browser = await chromium.launch({ executablePath: browser_file, args: ["--no-sandbox"] });
const problems = [];
try {
  const page = await browser.newPage({ viewport: { width: 800, height: 560 } });
  await page.route("**/*", (route) => {
    const address = route.request().url();
    if (address.startsWith(place) || address.startsWith("data:") || address.startsWith("blob:")) return route.continue();
    problems.push(`expected nothing from elsewhere, got a request for ${address}`);
    return route.abort();
  });
  page.on("pageerror", (error) => problems.push(`page: ${error.message}`));
  const loaded = [];
  page.on("response", (response) => loaded.push([response.status(), response.url().slice(place.length)]));
  await page.goto(place);
  await page.waitForFunction(() => !document.getElementById("text").disabled || document.querySelector(".failed"), null, {
    timeout: 120_000,
  });
  const refuse = async () => {
    const failed = await page.$eval("#status", (status) => (status.className === "failed" ? status.textContent : null));
    if (failed) throw new Error(failed);
  };
  await refuse();
  for (const { text, label, score } of wanted) {
    await page.fill("#text", text);
    await page.waitForFunction(
      (typed) => document.getElementById("status").dataset.text === typed || document.querySelector(".failed"),
      text,
    );
    await refuse();
    const names = await page.$$eval("#labels dt", (all) => all.map((one) => one.textContent));
    const numbers = await page.$$eval("#labels .score", (all) => all.map((one) => Number(one.textContent)));
    const best = numbers.indexOf(Math.max(...numbers));
    console.log(`${names[best]} ${numbers[best].toFixed(3)} (${await page.textContent("#status")})  ${text}`);
    if (label !== undefined && names[best] !== label) problems.push(`${text}: expected ${label}, got ${names[best]}`);
    if (score !== undefined && !(Math.abs(numbers[best] - score) <= LARGEST)) {
      problems.push(`${text}: expected ${score.toFixed(3)}, got ${numbers[best]}`);
    }
  }
  const model = loaded.filter(([code, name]) => code === 200 && /\.(onnx|wasm)$/.test(name)).map(([, name]) => name);
  console.log(`loaded ${model.join(", ")}`);
  if (screenshot) await page.screenshot({ path: screenshot });
} catch (error) {
  problems.push(error.message);
} finally {
  await browser.close();
  server.close();
}
for (const problem of problems) console.error(problem);
process.exit(problems.length ? 1 : 0);
