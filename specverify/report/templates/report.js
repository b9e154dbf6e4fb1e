// Sorts and filters the tables of a report, and opens what a link leads into. The page says all without it.
"use strict";

function key(row, column, numeric) {
  const text = row.cells[column].textContent.trim();
  if (!numeric) return text;
  const value = Number.parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(value) ? null : value;
}

function compare(a, b) {
  if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1; // what is not known comes last
  return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
}

function sortable(table, rows) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return; // a button needs a name
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const was = head.getAttribute("aria-sort");
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      let order = rows; // a third click: as it was
      if (was !== "descending") {
        const sign = was === "ascending" ? -1 : 1;
        const keys = new Map(rows.map((row) => [row, key(row, column, head.classList.contains("n"))]));
        order = rows.toSorted((a, b) => {
          const [x, y] = [keys.get(a), keys.get(b)];
          return x === null || y === null ? compare(x, y) : sign * compare(x, y);
        });
        head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      }
      table.tBodies[0].append(...order);
    });
  });
}

function filterable(table, rows) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  const count = document.createElement("output");
  input.type = "search";
  label.className = "filter";
  label.append("Filter ", input, " ", count);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.value = words.length ? `${shown} of ${rows.length} rows` : "";
  });
  table.parentElement.before(label);
}

function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  target?.querySelector(":scope > details.folded")?.setAttribute("open", "");
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
}

for (const table of document.querySelectorAll("main table")) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length > 2) sortable(table, rows);
  if (rows.length > 10) filterable(table, rows);
}
addEventListener("hashchange", reveal);
reveal();
