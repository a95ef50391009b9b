// Opens a page in Chromium and says, as JSON, what was wrong with it: look.mjs CHROMIUM NODE_MODULES PAGE [SCREENSHOT]
import { createRequire } from "node:module";
const [chromium, modules, page, screenshot] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const puppeteer = require("puppeteer-core");
const browser = await (puppeteer.default ?? puppeteer).launch({
  executablePath: chromium,
  args: ["--no-sandbox", "--disable-gpu"],
});
const tab = await browser.newPage();
const errors = [], requests = [];
tab.on("console", (message) => ["error", "warn"].includes(message.type()) && errors.push(message.text()));
tab.on("pageerror", (error) => errors.push(String(error)));
tab.on("request", (request) => /^(data|file):/.test(request.url()) || requests.push(request.url()));
await tab.setBypassCSP(true); // for axe, which is put into the page after it was read

async function axe(scheme) {
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await tab.addScriptTag({ path: require.resolve("axe-core/axe.min.js") });
  const found = await tab.evaluate(() => axe.run());
  return found.violations.map((each) => `${each.id}: ${each.nodes[0].html.slice(0, 200)} (${each.nodes.length})`);
}

await tab.setViewport({ width: 360, height: 740 });
await tab.goto(`file://${page}`);
const overflow = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
const light = await axe("light");
const background = () => tab.evaluate(() => getComputedStyle(document.body).backgroundColor);
const day = await background();
const dark = await axe("dark");
const night = await background();
const unseen = [];
let stops = 0;
await tab.evaluate(() => document.body.focus());
for (; stops < 40; stops++) {
  await tab.keyboard.press("Tab");
  const outline = await tab.evaluate(() => {
    const focused = document.activeElement;
    return focused === document.body ? null : [focused.outerHTML.slice(0, 80), getComputedStyle(focused).outlineStyle];
  });
  if (outline === null) break;
  if (outline[1] === "none") unseen.push(outline[0]);
}
const masks = await tab.evaluate(() => {
  const box = document.querySelector("#show-masks");
  if (!box) return null;
  const shown = () => getComputedStyle(document.querySelector(".mask")).display !== "none";
  const before = shown();
  box.click();
  return [before, shown()];
});
if (screenshot) await tab.screenshot({ path: screenshot, fullPage: true });
await browser.close();
console.log(JSON.stringify({ errors, requests, overflow, light, dark, day, night, stops, unseen, masks }));
