// Open pages one after the other in a real browser and wait until each shows some
// texts: browse.mjs PLAYWRIGHT CHROMIUM FOLDER  with [{"url":…,"texts":[…]}] on standard input.
// Prints {"requests":[{"method":…,"url":…,"status":…,"type":…,"page":…}],"faults":[…],"missing":[…]} and leaves
// a picture of each page in the folder.
import { createRequire } from "node:module";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [playwright, chromium, folder] = process.argv.slice(2);
const { chromium: driver } = createRequire(import.meta.url)(playwright);
let text = "";
for await (const chunk of process.stdin) text += chunk;
const profile = mkdtempSync(join(tmpdir(), "browse-"));
const context = await driver.launchPersistentContext(profile, {
  executablePath: chromium,
  headless: true,
  viewport: { width: 1400, height: 900 },
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const out = { requests: [], faults: [], missing: [] };
let n = 0;
for (const { url, texts } of JSON.parse(text)) {
  const page = await context.newPage();
  page.on("response", (r) =>
    out.requests.push({ method: r.request().method(), url: r.url(), status: r.status(), type: r.headers()["content-type"] ?? "", page: n })
  );
  page.on("requestfailed", (r) => out.faults.push(`${r.url()}: ${r.failure()?.errorText}`));
  page.on("pageerror", (e) => out.faults.push(`page ${n}: ${e}`));
  await page.goto(url);
  for (const wanted of texts) {
    try {
      await page.getByText(wanted, { exact: false }).first().waitFor({ timeout: 20_000 });
    } catch {
      out.missing.push(`page ${n}: ${wanted}: the page shows ${await page.evaluate(() => document.body.innerText)}`);
    }
  }
  await page.screenshot({ path: join(folder, `${n}.png`) });
  await page.close();
  n++;
}
await context.close();
rmSync(profile, { recursive: true, force: true });
console.log(JSON.stringify(out));
