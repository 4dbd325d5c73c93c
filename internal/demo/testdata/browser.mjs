// A real browser, driven line by line: each line of standard input is a step in
// JSON, and each gets one line of JSON back, {"value": …} or {"error": "…"}. It
// ends with its input. browser_test.go is the other end.
//
//   node browser.mjs MODULES CHROMIUM BASE
//
// MODULES has playwright-core and axe-core, CHROMIUM is the browser, BASE the
// only place that any page may ask for anything.
import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import path from "node:path";

const [modules, executablePath, base] = process.argv.slice(2);
const require = createRequire(path.join(modules, "browser.cjs"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const wait = 20_000; // milliseconds, for whatever a step waits for

const browser = await chromium.launch({ executablePath, args: ["--disable-gpu", "--disable-dev-shm-usage"] });
const visitors = new Map(); // by name: {context, page, wrong}

// An element by how a person finds it: the text of its label, or its role and name.
function find(page, at) {
  const within = at.within ? page.locator(at.within) : page;
  if (at.label) return within.getByLabel(at.label, { exact: !at.loose }).first();
  if (at.role) return within.getByRole(at.role, { name: at.name, exact: !at.loose }).first();
  if (at.css) return within.locator(at.css).first();
  return within.getByText(at.text).first();
}

const steps = {
  // A visitor has cookies and a screen of their own.
  async visitor({ name, width, height, scripts, dark }) {
    const context = await browser.newContext({
      baseURL: base, javaScriptEnabled: scripts, viewport: { width, height }, colorScheme: dark ? "dark" : "light",
      reducedMotion: "reduce", locale: "en-GB", timezoneId: "UTC",
    });
    context.setDefaultTimeout(wait);
    const page = await context.newPage();
    const wrong = []; // what no page may do
    page.on("pageerror", (error) => wrong.push(`a script failed: ${error}`));
    page.on("console", (message) => {
      const text = message.text();
      if (message.type() === "error" && !text.startsWith("Failed to load resource")) wrong.push(`the browser says: ${text}`);
    });
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(base) && !url.startsWith("data:")) wrong.push(`a request to ${url}`);
    });
    page.on("response", (response) => {
      if (response.status() >= 400 && !response.request().isNavigationRequest()) wrong.push(`${response.status()} for ${response.url()}`);
    });
    page.on("dialog", (dialog) => { wrong.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
    visitors.set(name, { context, page, wrong });
  },
  async leave({ page, wrong, context }, { name }) {
    await context.close();
    visitors.delete(name);
    return wrong;
  },

  async open({ page }, { path }) { return (await page.goto(path)).status(); },
  async reload({ page }) { await page.reload(); },
  async text({ page }) { return page.locator("main").innerText(); },
  async title({ page }) { return page.title(); },

  async fill({ page }, { at, value }) { await find(page, at).fill(value); },
  async choose({ page }, { at, value }) { await find(page, at).selectOption({ label: value }); },
  async check({ page }, { at }) { await find(page, at).check(); },
  async press({ page }, { at }) { await find(page, at).click(); },
  async see({ page }, { text, within }) {
    await page.locator(within ?? "body").getByText(text).filter({ visible: true }).first().waitFor();
  },
  async arrive({ page }, { pattern }) {
    await page.waitForURL((url) => new RegExp(pattern).test(url.pathname + url.search));
    return new URL(page.url()).pathname;
  },

  // The keyboard: keys by their names, and text.
  async key({ page }, { key }) { await page.keyboard.press(key); },
  async type({ page }, { value }) { await page.keyboard.type(value); },
  // What has the focus, as a person would name it, and whether it can be seen that it has.
  async focused({ page }) {
    return page.evaluate(() => {
      const e = document.activeElement;
      if (!e || e === document.body) return { name: "", role: "", seen: false };
      const label = e.labels?.[0]?.innerText ?? e.getAttribute("aria-label") ?? e.innerText ?? "";
      const style = getComputedStyle(e);
      const seen = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
      return { name: label.trim().replace(/\s+/g, " "), role: e.tagName.toLowerCase() + (e.type ? ":" + e.type : ""), id: e.id, seen };
    });
  },

  async screen({ page }, { width, height, dark }) {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: dark ? "dark" : "light" });
  },
  // What axe-core finds wrong with the page as it stands, and what is wider than the screen.
  async judge(visitor, sight) {
    const { page } = visitor;
    await steps.screen(visitor, sight);
    if (!(await page.evaluate(() => typeof window.axe === "object"))) await page.evaluate(axe);
    return page.evaluate(async () => {
      const found = await window.axe.run(document, {
        runOnly: { type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] },
        rules: { "target-size": { enabled: true } },
        resultTypes: ["violations"],
      });
      const wrong = found.violations.map((v) => `${v.id} (${v.help}): ` +
        v.nodes.slice(0, 3).map((n) => `${n.html.slice(0, 200)} — ${n.failureSummary.replace(/\s+/g, " ").slice(0, 300)}`).join("; "));
      const root = document.documentElement;
      if (root.scrollWidth > root.clientWidth) {
        const wide = [...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1 && !e.closest(".scroll, pre"));
        wrong.push(`the page is ${root.scrollWidth} px wide on a screen of ${root.clientWidth}: ${wide.slice(0, 3).map((e) => e.outerHTML.slice(0, 160)).join("; ")}`);
      }
      return wrong;
    });
  },
  async picture({ page }, { file }) {
    writeFileSync(file, await page.screenshot({ fullPage: true, animations: "disabled" }));
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const step = JSON.parse(line);
  let answer;
  try {
    const run = steps[step.do];
    const doing = step.do === "visitor" ? run(step) : run(visitors.get(step.name), step);
    const late = new Promise((_, fail) => setTimeout(fail, 3 * wait, new Error("no end after a minute")).unref());
    answer = { value: (await Promise.race([doing, late])) ?? null };
  } catch (error) {
    answer = { error: String(error.message ?? error).slice(0, 2000) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
await browser.close();
