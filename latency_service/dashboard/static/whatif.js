// Sliders of the what-if page: asks for the latency while they move. One request is under way at a
// time; when it is answered, the newest widths are asked for.
"use strict";

const form = document.getElementById("sliders");
const answerBox = document.getElementById("answer");
const rows = Array.from(form.querySelectorAll(".slider"), (element) => ({
  range: element.querySelector("input[type=range]"),
  number: element.querySelector("input[type=number]"),
  place: element.querySelector("[data-place]"),
  lattice: element.dataset.lattice.split(" ").map(Number),
}));
const snap = document.getElementById("snap");
// milliseconds from an input event to its number on the page
window.whatif = { times: [] };

let asking = false;
let waiting = null;  // time of the newest event that is not answered

const digits = (value, count) => {
  if (value === null) return "–";
  const places = value === 0 ? 0 : Math.max(0, count - 1 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
};

function raised(row, width) {
  return row.lattice.find((choice) => choice >= width) ?? Number(row.range.max);
}

function widthOf(row) {
  return Number(row.number.value);
}

function state() {
  return rows.map(widthOf).join(".");
}

function set(row, width) {
  const low = Number(row.range.min);
  const high = Number(row.range.max);
  const inside = Math.min(high, Math.max(low, Math.round(width)));
  const value = snap.checked ? raised(row, inside) : inside;
  row.number.value = value;
  row.range.value = value;
  const higher = raised(row, value);
  row.place.textContent = higher === value ? `of ${high}` : `off the lattice: ${higher} is at least as fast`;
}

function field(name, text) {
  answerBox.querySelector(`[data-field=${name}]`).textContent = text;
}

function show(answer) {
  field("source", answer.source);
  field("latency", digits(answer.latency_ms, 4));
  field("level", digits(answer.level, 2));
  field("lower", digits(answer.lower_ms, 4));
  field("upper", digits(answer.upper_ms, 4));
  field("of_dense", digits(answer.of_dense_percent, 3));
  field("channels", digits(answer.channels_percent, 3));
  field("off_lattice", String(answer.off_lattice.length));
}

function showCosts(costs) {
  const most = Math.max(...costs.map((cost) => cost.saved_ms ?? 0));
  document.querySelectorAll("#costs tbody tr").forEach((line, g) => {
    const found = costs[g];
    const saved = found.saved_ms === null ? null : 1000 * found.saved_ms;
    const cost = { ...found, saved_us: saved, gradient_us: 1000 * found.gradient_ms };
    for (const cell of line.querySelectorAll("[data-cost]")) {
      const value = cost[cell.dataset.cost];
      const isCount = cell.dataset.cost === "width" || cell.dataset.cost === "narrower";
      cell.textContent = isCount ? value ?? "–" : digits(value, 3);
    }
    const share = most > 0 ? (100 * Math.max(cost.saved_ms ?? 0, 0)) / most : 0;
    line.querySelector("rect").setAttribute("width", share.toFixed(1));
  });
}

function address() {
  const url = new URL(location.href);
  url.search = "";
  url.searchParams.set("w", state());
  if (snap.checked) url.searchParams.set("snap", "true");
  return url;
}

async function ask() {
  if (asking || waiting === null) return;
  asking = true;
  const since = waiting;
  waiting = null;
  try {
    const response = await fetch(`${answerBox.dataset.answer}?w=${state()}`, { headers: { accept: "application/json" } });
    const body = await response.json();
    if (!response.ok) throw new Error(`${body.error.message} ${body.error.cure}`);
    show(body);
    showCosts(body.costs);
    window.whatif.times.push(performance.now() - since);
  } catch (error) {
    field("source", `no answer (${error.message}); last known`);
  }
  asking = false;
  ask();
}

function moved(row, input, event) {
  if (input.value === "" || !input.validity.valid) return;
  set(row, Number(input.value));
  waiting = event.timeStamp;
  ask();
}

for (const row of rows) {
  row.range.hidden = false;
  row.range.addEventListener("input", (event) => moved(row, row.range, event));
  row.number.addEventListener("change", (event) => moved(row, row.number, event));
}
form.addEventListener("change", () => {
  history.replaceState(null, "", address());
  document.getElementById("share").href = address();
});
snap.addEventListener("change", (event) => {
  for (const row of rows) set(row, widthOf(row));
  waiting = event.timeStamp;
  ask();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  waiting = event.timeStamp;
  ask();
});
