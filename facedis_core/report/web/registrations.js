// Tables whose heads sort their rows: a click, and another one for the other way.
"use strict";

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const upwards = head.getAttribute("aria-sort") === "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", upwards ? "ascending" : "descending");
      const number = head.dataset.kind === "number", sign = upwards ? 1 : -1;
      const value = (row) => {
        const text = row.cells[column].dataset.value ?? row.cells[column].textContent;
        return number ? Number.parseFloat(text) : text;
      };
      const order = (a, b) => (number ? a - b : a.localeCompare(b));
      const known = (row) => !number || !Number.isNaN(value(row));
      const rows = [...body.rows].sort((a, b) =>
        known(b) - known(a) || (known(a) ? sign * order(value(a), value(b)) : 0));
      body.append(...rows);
    });
  });
}
