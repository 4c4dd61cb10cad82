const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function press(buttons, pressed) {
  for (const button of buttons) button.setAttribute("aria-pressed", String(button === pressed));
}

// The leaderboard: a click on a title sorts by it, the next one the other way round; what is missing stays last.
const body = document.querySelector("#board tbody");
const titles = all("#board th");
titles.forEach((title, column) => title.addEventListener("click", () => {
  const up = title.getAttribute("aria-sort") !== "ascending";
  titles.forEach((other) => other.removeAttribute("aria-sort"));
  title.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = (row) => row.cells[column].dataset.key;
  const numeric = all("tr", body).every((row) => key(row) === "" || !Number.isNaN(Number(key(row))));
  const order = (a, b) => {
    if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
    const rise = numeric ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b));
    return up ? rise : -rise;
  };
  body.append(...all("tr", body).sort(order));
}));

const filters = all(".filters button");
filters.forEach((button) => button.addEventListener("click", () => {
  press(filters, button);
  const state = button.dataset.state;
  for (const row of all("tr", body)) row.hidden = state !== "" && row.dataset.state !== state;
}));

const steps = all(".steps button");
steps.forEach((button) => button.addEventListener("click", () => {
  press(steps, button);
  for (const samples of all(".at-step")) samples.hidden = samples.dataset.step !== button.dataset.step;
}));

// Enlarged: bicubic, the trial's cell and the original of one image; arrow keys go from trial to trial.
const zoom = document.getElementById("zoom");
let shown = null;
function enlarge(cell) {
  shown = cell;
  const references = Number(cell.closest("table").dataset.references);
  const cells = [...cell.parentNode.cells];
  const chosen = [...new Set([cells[0], cell, cells[references - 1]])];
  zoom.querySelector(".cells").replaceChildren(...chosen.map((one) => {
    const figure = document.createElement("figure");
    const text = document.createElement("figcaption");
    text.textContent = one.querySelector("img").alt;
    figure.append(one.querySelector("img").cloneNode(), text);
    return figure;
  }));
  zoom.querySelector("p").textContent = "← → other trials, ↑ ↓ other images, Esc or a click closes";
  zoom.hidden = false;
  zoom.focus();
}
all(".at-step td").forEach((cell) => cell.addEventListener("click", () => enlarge(cell)));
function close() {
  zoom.hidden = true;
  if (shown) shown.querySelector("button").focus();
}
zoom.addEventListener("click", close);
document.addEventListener("keydown", (event) => {
  if (zoom.hidden) return;
  const line = shown.parentNode;
  const next = {
    ArrowLeft: () => shown.previousElementSibling,
    ArrowRight: () => shown.nextElementSibling,
    ArrowUp: () => line.previousElementSibling && line.previousElementSibling.cells[shown.cellIndex],
    ArrowDown: () => line.nextElementSibling && line.nextElementSibling.cells[shown.cellIndex],
  }[event.key];
  if (event.key === "Escape") close();
  else if (next) {
    event.preventDefault();
    if (next()) enlarge(next());
  }
});
