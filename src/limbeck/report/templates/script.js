"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const bodies = [...table.tBodies].filter((body) => !body.classList.contains("teacher"));
  const value = (row, column) => {
    const cell = row.cells[column];
    return column === 0 ? cell.textContent.trim().toLowerCase() : parseFloat(cell.dataset.value);
  };
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const first = column === 0 || head.dataset.better === "low" ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = now === first ? other : first;
      const sign = order === "ascending" ? 1 : -1;
      heads.forEach((each) => each.setAttribute("aria-sort", each === head ? order : "none"));
      for (const body of bodies) {
        const rows = [...body.rows].sort((a, b) => {
          const x = value(a, column), y = value(b, column);
          const missing = Number.isNaN(x) - Number.isNaN(y);
          return missing || sign * (x < y ? -1 : x > y ? 1 : 0);
        });
        body.append(...rows);
      }
    });
  });
}
const lines = (pre) => new Map(pre.textContent.split("\n").filter(Boolean).map((line) => [line.split(": ", 1)[0], line]));
const complete = (run) => {
  const own = run.querySelector(":scope > pre.own"), shared = document.getElementById("shared");
  if (!own || !shared || run.querySelector(":scope > pre.whole")) return;
  const mine = lines(own), all = lines(shared);
  const above = (key) => [...mine.keys()].some((each) => key.startsWith(`${each}.`));
  const whole = Object.assign(document.createElement("pre"), { className: "whole", tabIndex: 0 });
  for (const key of new Set([...all.keys(), ...mine.keys()])) {
    const line = mine.get(key) ?? all.get(key);
    if (line.endsWith(": (not set)") || (!mine.has(key) && above(key))) continue;
    const shown = document.createElement(mine.has(key) ? "strong" : "span");
    shown.textContent = `${line}\n`;
    whole.append(shown);
  }
  run.append(whole);
};
document.addEventListener("toggle", (event) => {
  if (event.target.matches("details.run[open]")) complete(event.target);
}, true);
const reveal = () => {
  const target = document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let each = target; each; each = each.parentElement) {
    if (each instanceof HTMLDetailsElement) each.open = true;
  }
  target.scrollIntoView();
};
addEventListener("hashchange", reveal);
document.addEventListener("click", (event) => {
  if (event.target.closest('a[href^="#"]')) setTimeout(reveal);
});
reveal();
