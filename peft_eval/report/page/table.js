// The main table: sorting by a column, filters, saving what is shown.
const table = document.getElementById("table");
const filters = document.getElementById("filters");
const sortable = table.querySelectorAll("thead th");

function compareCells(first, second) {
  const [a, b] = [first, second].map((cell) => cell?.dataset.value ?? "");
  if (a === "" || b === "") return (a === "") - (b === "");
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
}

function sortBy(head) {
  const index = [...head.parentNode.children].indexOf(head);
  const first = head.classList.contains("number") ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const direction = head.getAttribute("aria-sort") === first ? other : first;
  for (const one of sortable) one.setAttribute("aria-sort", one === head ? direction : "none");
  const sign = direction === "ascending" ? 1 : -1;
  for (const body of table.tBodies) {
    const rows = [...body.rows].sort((one, two) => {
      const [a, b] = [one.cells[index], two.cells[index]];
      const empty = [a, b].some((cell) => (cell?.dataset.value ?? "") === ""); // what is empty stays below
      return compareCells(a, b) * (empty ? 1 : sign);
    });
    body.append(...rows);
  }
}

function chosenFilters() {
  const boxes = [...filters.querySelectorAll("[name=method]")];
  return {
    methods: new Set(boxes.filter((box) => box.checked).map((box) => box.value)),
    base: filters.elements.base?.value ?? "",
    suite: filters.elements.suite.value,
    chosen: filters.elements.chosen?.checked ?? false,
    column: Number(filters.elements.column.value),
  };
}

// Bases and full fine-tuning stay whatever methods are picked: the rest is measured against them.
function filterTable(wanted) {
  let shown = 0;
  for (const row of table.querySelectorAll("tbody tr[id]")) {
    const pinned = row.parentNode.classList.contains("pinned");
    const here = !wanted.base || row.dataset.base === wanted.base;
    const picked = pinned || (wanted.methods.has(row.dataset.label) && (!wanted.chosen || "chosen" in row.dataset));
    row.hidden = !(here && picked);
    shown += !row.hidden;
  }
  for (const cell of table.querySelectorAll("[data-suite]")) {
    cell.hidden = wanted.suite ? cell.dataset.suite !== wanted.suite : !("main" in cell.dataset);
  }
  document.getElementById("shown").textContent = `${shown} of ${Object.keys(DATA.rows).length} rows`;
}

function tableAsCsv() {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [...table.rows].filter((row) => !row.hidden).map((row) =>
    [...row.cells].filter((cell) => !cell.hidden)
      .map((cell) => quoted((cell.dataset.value ?? cell.innerText).replaceAll("\n", " ").trim())).join(","));
  return lines.join("\r\n") + "\r\n";
}

for (const head of sortable) head.firstElementChild.addEventListener("click", () => sortBy(head));
document.getElementById("csv").addEventListener("click", () => save("scores.csv", "text/csv", tableAsCsv()));
document.getElementById("all").addEventListener("click", () => {
  const boxes = [...filters.querySelectorAll("[name=method]")];
  const checked = !boxes.every((box) => box.checked);
  for (const box of boxes) box.checked = checked;
  filters.dispatchEvent(new Event("input"));
});
