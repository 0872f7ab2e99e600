"use strict";
// Everything is in the page already: this sorts, filters, enlarges and switches colours. Names are only ever
// handled as text, never as markup.

const $ = (id) => document.getElementById(id);

function theme() {
  const button = $("theme"), root = document.documentElement;
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const show = () => { button.textContent = dark() ? "Light colours" : "Dark colours"; };
  try { root.dataset.theme = localStorage.getItem("report-theme") || ""; } catch { /* a file may have none */ }
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("report-theme", root.dataset.theme); } catch { /* nor remember */ }
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  button.hidden = false;
  show();
}

function value(row, column) {
  const cell = row.cells[column];
  if (!cell) return "";
  const text = cell.dataset.value ?? cell.textContent.trim();
  return cell.classList.contains("number") && text !== "" ? Number(text) : text;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  const [left, right] = [a, b].map((text) => String(text).split(/(\d+(?:\.\d+)?)/));
  for (let i = 0; i < Math.min(left.length, right.length); i++) { // words, and figures at odd places
    const order = i % 2 ? Number(left[i]) - Number(right[i]) : left[i].localeCompare(right[i]);
    if (order) return order;
  }
  return left.length - right.length;
}

function sort(table, column, direction) {
  const body = table.tBodies[0];
  const empty = (x) => x === "" || Number.isNaN(x);
  const rows = [...body.rows].map((row) => [value(row, column), row]);
  rows.sort(([a], [b]) => empty(a) - empty(b) || direction * compare(a, b));
  body.append(...rows.map(([, row]) => row));
  for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
  table.tHead.rows[0].cells[column].setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
}

function sortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const first = head.classList.contains("number") ? -1 : 1;
      sort(table, column, now === null ? first : now === "ascending" ? -1 : 1);
    });
  });
}

function matcher(columns, word) {
  const parts = /^([\w.-]+)(!=|<=|>=|=|<|>)(.*)$/.exec(word);
  const column = parts ? columns.indexOf(parts[1].replaceAll("-", "_").toLowerCase()) : -1;
  if (column < 0) return (row) => row.textContent.toLowerCase().includes(word.toLowerCase());
  const [, , sign, wanted] = parts;
  return (row) => {
    const have = value(row, column);
    const numbers = typeof have === "number" && wanted !== "" && !Number.isNaN(Number(wanted));
    const [a, b] = numbers ? [have, Number(wanted)] : [String(have).toLowerCase(), wanted.toLowerCase()];
    if (sign === "=") return a === b;
    if (sign === "!=") return a !== b;
    if (!numbers) return false;
    return sign === "<" ? a < b : sign === ">" ? a > b : sign === "<=" ? a <= b : a >= b;
  };
}

function filter() {
  const table = $("runs-table"), search = $("filter"), state = $("state");
  if (!table) return;
  const columns = [...table.tHead.rows[0].cells].map((head) => head.dataset.name || "");
  const apply = () => {
    const tests = search.value.split(/\s+/).filter(Boolean).map((word) => matcher(columns, word));
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const kept = (!state.value || row.dataset.state === state.value) && tests.every((test) => test(row));
      row.hidden = !kept;
      shown += kept;
    }
    $("count").textContent = `${shown} of ${table.tBodies[0].rows.length} runs`;
  };
  search.addEventListener("input", apply);
  state.addEventListener("change", apply);
  search.closest(".controls").hidden = false;
  apply(); // a browser may have kept what was typed
}

function viewer() {
  const dialog = $("viewer"), content = $("viewer-content");
  const cards = [...document.querySelectorAll(".gallery .card")].filter((card) => card.querySelector("button.open"));
  let at = 0;
  const show = (place) => {
    at = (place + cards.length) % cards.length;
    const copy = cards[at].cloneNode(true);
    const button = copy.querySelector("button.open");
    button.replaceWith(...button.childNodes);
    for (const part of copy.querySelectorAll("details")) part.open = true;
    content.replaceChildren(copy);
    if (!dialog.open) dialog.showModal();
    // what had the focus may be gone with the last image, and the keys would go elsewhere
    if (!document.activeElement.dataset.step) dialog.querySelector("[data-step='1']").focus();
  };
  cards.forEach((card, place) => {
    card.querySelector("button.open").addEventListener("click", () => show(place));
  });
  for (const button of dialog.querySelectorAll("[data-step]")) {
    const step = Number(button.dataset.step);
    button.addEventListener("click", () => (step ? show(at + step) : dialog.close()));
  }
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) show(at + step);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => cards[at]?.querySelector("button.open").focus());
}

function legends() {
  for (const item of document.querySelectorAll(".legend [data-series]")) {
    const lines = item.closest("figure").querySelectorAll("svg.chart [data-series]");
    const mark = (on) => lines.forEach((line) => {
      line.classList.toggle("faint", on && line.dataset.series !== item.dataset.series);
    });
    item.addEventListener("mouseenter", () => mark(true));
    item.addEventListener("mouseleave", () => mark(false));
  }
}

addEventListener("beforeprint", () => document.querySelectorAll("details.print").forEach((part) => { part.open = true; }));
theme();
document.querySelectorAll("table.sortable").forEach(sortable);
filter();
viewer();
legends();
