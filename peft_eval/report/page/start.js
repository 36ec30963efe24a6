// Joins the parts: filters act on table and plots, clicks open dialogs.
async function applyFilters() {
  const wanted = chosenFilters();
  filterTable(wanted);
  await showPlots(wanted);
}

filters.addEventListener("input", (event) => {
  if (event.target?.name === "suite" && event.target.value) {
    filters.elements.column.value = String(DATA.columns.findIndex((column) => column.suite === event.target.value));
  }
  applyFilters();
});
filters.addEventListener("submit", (event) => event.preventDefault());
table.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-row]");
  if (!button) return;
  button.dataset.column ? openSamples(button.dataset.row, Number(button.dataset.column)) : openDetails(button.dataset.row);
});
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

applyFilters().then(() => {
  document.documentElement.dataset.ready = "yes";
});
addEventListener("load", () => {
  const linked = /^#samples-(r\d+)-(\d+)$/.exec(location.hash);
  if (linked && DATA.rows[linked[1]] && DATA.columns[linked[2]]) openSamples(linked[1], Number(linked[2]));
});
