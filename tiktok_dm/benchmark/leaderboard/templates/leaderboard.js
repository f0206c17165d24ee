"use strict";
// Sorting of the tables by a column: numbers by size, words by letter, what is undefined always last.
for (const table of document.querySelectorAll("table.board")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const other = { ascending: "descending", descending: "ascending" };
      const wanted = now ? other[now] : button.dataset.first;
      const sign = wanted === "ascending" ? 1 : -1;
      const keyed = [...body.rows].map((row) => [row.cells[column].dataset.v, row]);
      keyed.sort(([a], [b]) => {
        if (a === "" || b === "") return (a === "") - (b === "");
        const x = Number(a), y = Number(b);
        return sign * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y);
      });
      body.append(...keyed.map(([, row]) => row));
      for (const one of heads) one.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", wanted);
      document.getElementById("said").textContent =
        `Sorted by ${button.textContent.replaceAll("\u200b", "").trim()}, ${wanted}.`;
    });
  });
}

// Which rows are shown.
const filters = document.getElementById("filters");
function show() {
  const baselines = !document.getElementById("hide-baselines").checked;
  const older = document.getElementById("show-older").checked;
  const track = document.getElementById("track").value;
  let shown = new Set();
  for (const row of document.querySelectorAll("table.board tbody tr")) {
    const grey = row.classList.contains("baseline");
    row.hidden = (grey && !baselines) || ("older" in row.dataset && !older) || (!grey && track !== "" && row.dataset.track !== track);
    if (!row.hidden) shown.add(row.dataset.name);
  }
  document.getElementById("said").textContent = `${shown.size} rows are shown.`;
}
filters.addEventListener("change", show);
filters.addEventListener("submit", (event) => event.preventDefault());
