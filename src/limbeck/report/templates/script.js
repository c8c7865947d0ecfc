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
const reveal = () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.scrollIntoView();
  }
};
addEventListener("hashchange", reveal);
for (const link of document.querySelectorAll('a[href^="#run-"]')) {
  link.addEventListener("click", () => setTimeout(reveal));
}
reveal();
