// What is known of a cell: settings, hashes, versions.
const detailsDialog = document.getElementById("details");

async function openDetails(row) {
  const all = await unpack("details");
  document.getElementById("details-title").textContent = DATA.rows[row].name;
  const list = detailsDialog.querySelector(".list");
  list.replaceChildren(...all[row].flatMap((sections) => Object.entries(sections).flatMap(([heading, values]) => {
    const body = make("table");
    for (const [name, value] of Object.entries(values)) {
      const line = body.insertRow();
      line.append(make("td", name.replaceAll("_", " ")), make("td", typeof value === "object" ? JSON.stringify(value) : value));
    }
    return heading ? [make("h3", heading), body] : [body];
  })));
  detailsDialog.showModal();
  list.scrollTop = 0;
}
