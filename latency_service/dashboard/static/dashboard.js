// What pages need beyond HTML: figures, copying, the theme, live parts. Every page works without it,
// but for its figures, whose numbers are in the tables under them.
"use strict";

const root = document.documentElement;
const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));

// ---- the theme --------------------------------------------------------------------------------

function setUpTheme() {
  const select = document.getElementById("theme");
  if (!select) return;
  select.addEventListener("change", () => {
    if (select.value === "system") delete root.dataset.theme;
    else root.dataset.theme = select.value;
    const path = new URL(document.querySelector(".brand").href).pathname;
    document.cookie = `latency_theme=${select.value}; path=${path}; max-age=31536000; samesite=strict`;
    repaint();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
}

// ---- figures ----------------------------------------------------------------------------------

const CONFIG = {
  displayModeBar: false, responsive: true, showSendToCloud: false, plotlyServerURL: "",
  showTips: false, doubleClick: "reset",
};
const sources = new Map();  // id of a figure -> its JSON
let plotly = null;          // the promise of its script

function loadPlotly() {
  if (window.Plotly) return Promise.resolve(window.Plotly);  // a page that is one file has it inside
  plotly ??= new Promise((resolve, reject) => {
    for (const id of document.body.dataset.plotlyStyles.split(" ")) {
      const taken = document.createElement("meta");  // plotly adds no style where the id is taken
      taken.id = id;
      document.head.append(taken);
    }
    const script = document.createElement("script");
    script.src = document.body.dataset.plotly;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("the script of the figures was not loaded"));
    document.head.append(script);
  });
  return plotly;
}

// `var(--ink)` and the like become the theme's colours; everything else is copied.
function themed(value, style) {
  if (typeof value === "string") {
    const name = /^var\((--[a-z]+)\)$/.exec(value);
    return name ? style.getPropertyValue(name[1]).trim() : value;
  }
  if (Array.isArray(value)) return value.map((entry) => themed(entry, style));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, themed(entry, style)]));
  }
  return value;
}

function withAxes(layout, style) {
  const axis = { gridcolor: "var(--line)", linecolor: "var(--soft)", zerolinecolor: "var(--line)", tickcolor: "var(--soft)" };
  const names = new Set(["xaxis", "yaxis", ...Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))]);
  const common = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: "var(--ink)" },
    hoverlabel: { bgcolor: "var(--raised)", bordercolor: "var(--line)", font: { color: "var(--ink)" } },
  };
  const narrow = matchMedia("(max-width: 700px), (pointer: coarse)").matches;
  const shape = { ...common, ...layout, dragmode: narrow ? false : layout.dragmode ?? "zoom" };
  for (const name of names) shape[name] = { ...axis, ...layout[name] };
  return themed(shape, style);
}

async function draw(id) {
  const element = document.getElementById(id);
  const source = sources.get(id);
  if (!element || !source) return;
  const library = await loadPlotly();
  const style = getComputedStyle(root);
  await library.react(element, themed(source.data, style), withAxes(source.layout, style), CONFIG);
}

function setUpFigures(within = document) {
  for (const element of all("[data-figure]", within)) {
    const text = document.getElementById(element.dataset.figure)?.textContent;
    if (!text) continue;
    sources.set(element.id, JSON.parse(text));
    draw(element.id).catch((error) => { element.textContent = `The figure cannot be drawn: ${error.message}.`; });
  }
}

function repaint() {
  for (const id of sources.keys()) draw(id);
}

// Other scripts change figures through this: window.figures.set("id", {data, layout}).
window.figures = { set(id, figure) { sources.set(id, figure); return draw(id); } };

function csvOf(figure) {
  const quote = (value) => (value === undefined || value === null ? "" : `"${String(value).replaceAll('"', '""')}"`);
  const lines = ["series,x,y"];
  for (const trace of figure.data) {
    const ys = trace.y ?? [];
    (trace.x ?? ys.map((_, k) => k)).forEach((x, k) => lines.push([trace.name, x, ys[k]].map(quote).join(",")));
  }
  return lines.join("\n") + "\n";
}

function download(name, url) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}

async function save(button) {
  const id = button.dataset.of;
  if (button.dataset.save === "csv") {
    const url = URL.createObjectURL(new Blob([csvOf(sources.get(id))], { type: "text/csv" }));
    download(`${id}.csv`, url);
    URL.revokeObjectURL(url);
    return;
  }
  const library = await loadPlotly();
  const element = document.getElementById(id);
  const style = getComputedStyle(root);
  const paper = style.getPropertyValue("--paper").trim();
  const figure = { data: themed(sources.get(id).data, style), layout: { ...withAxes(sources.get(id).layout, style), paper_bgcolor: paper } };
  const url = await library.toImage(figure, { format: "png", width: element.clientWidth, height: element.clientHeight, scale: 2 });
  download(`${id}.png`, url);
}

// ---- buttons ----------------------------------------------------------------------------------

async function copy(button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    const code = button.parentElement.querySelector("code");
    getSelection().selectAllChildren(code);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = before; }, 2000);
}

function setUpButtons() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.copy) copy(button);
    if (button?.dataset.save) save(button);
  });
  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-auto]");
    if (form) form.requestSubmit();
  });
  const form = document.querySelector("form[data-submit]");
  if (form) form.requestSubmit();
}

// ---- live parts -------------------------------------------------------------------------------

const FALLBACK_MS = 10000;

const pending = new Map();  // id of a part -> what to show there: only what changed is sent

// Never take what somebody holds: an element with the focus in it changes when that has left.
function isHeld(element) {
  return element !== document.activeElement && element.contains(document.activeElement);
}

function showPending() {
  for (const [id, html] of pending) {
    const element = document.getElementById(id);
    if (element && isHeld(element)) continue;
    if (element) element.innerHTML = html;
    pending.delete(id);
  }
}

function apply(parts) {
  for (const [id, html] of Object.entries(parts.html)) pending.set(id, html);
  showPending();
  for (const [id, figure] of Object.entries(parts.figures)) window.figures.set(id, figure);
}

// What has ended has parts that were not there before, and buttons less.
async function showWhole(main) {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (isHeld(main)) {
    main.addEventListener("focusout", () => setTimeout(() => showWhole(main)), { once: true });
    return;
  }
  main.replaceChildren(...page.querySelector("main").childNodes);
  setUpFigures(main);
}

function setUpLive() {
  const main = document.querySelector("main");
  const address = main.dataset.live;
  if (!address) return;
  main.addEventListener("focusout", () => setTimeout(showPending));
  let source = null;
  let isOver = false;
  const close = () => { source?.close(); source = null; };
  const open = () => {
    if (source || isOver || document.hidden) return;
    source = new EventSource(address);
    source.addEventListener("parts", (event) => {
      const parts = JSON.parse(event.data);
      apply(parts);
      if (!parts.final) return;
      isOver = true;
      close();
      showWhole(main);
    });
    source.addEventListener("error", () => {
      if (source?.readyState !== EventSource.CLOSED) return;
      close();
      setTimeout(() => { if (!document.hidden) location.reload(); }, FALLBACK_MS);
    });
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  open();
}

setUpTheme();
setUpButtons();
setUpFigures();
setUpLive();
