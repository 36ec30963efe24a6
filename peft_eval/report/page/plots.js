// Plots are drawn when they come into view, the others when the page has nothing else to do.
const figures = [...document.querySelectorAll("figure[data-plot]")];
const specs = new Map(DATA.plots.map((plot) => [plot.id, plot]));
const inView = new Set();
let wantedNow = null;

function scoreName(column) {
  const { suite, metric } = DATA.columns[column];
  return `${suite} ${metric}`;
}

async function draw(figure) {
  const plot = specs.get(figure.dataset.plot);
  const wanted = wantedNow;
  figure.dataset.drawn = "yes";
  const records = plot.dataset === "curves" ? await unpack("curves") : (await unpack(`d${wanted.column}`))[plot.dataset];
  const shown = records.filter((one) =>
    (!wanted.base || one.base === undefined || one.base === wanted.base) &&
    (one.label === undefined || one.kind === "base" || one.kind === "full" || wanted.methods.has(one.label)) &&
    (!wanted.chosen || one.kind === "base" || one.chosen !== false));
  const spec = JSON.parse(JSON.stringify(plot.spec).replaceAll('"$score"', JSON.stringify(scoreName(wanted.column))));
  Object.assign(spec, { data: { values: shown }, width: "container", height: heightOf(spec, shown) });
  const canvas = figure.querySelector(".canvas");
  const { view } = await vegaEmbed(canvas, spec, {
    config: DATA.config, renderer: "svg", actions: false, logLevel: 1, tooltip: { disableDefaultStyle: true, sanitize: escapeHtml },
    loader: { load: () => Promise.reject(new Error("nothing is fetched")) },
  });
  view.addEventListener("click", (event, item) => {
    if (item?.datum?.row) openSamples(item.datum.row, wanted.column);
  });
}

// As `height_of` in plots.py.
function heightOf(spec, records) {
  if (!spec.usermeta) return DATA.height;
  const { step, by } = spec.usermeta;
  return step * Math.max(1, new Set(records.map((one) => JSON.stringify(by.map((field) => one[field])))).size);
}

function escapeHtml(value) {
  return String(value).replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
}

async function drawVisible() {
  await Promise.all(figures.filter((one) => inView.has(one) && !one.hidden && !one.dataset.drawn).map(draw));
}

function drawRest() {
  const next = figures.find((one) => !one.hidden && !one.dataset.drawn);
  if (!next) return;
  requestIdleCallback(async () => {
    if (!next.dataset.drawn) await draw(next);
    drawRest();
  });
}

async function showPlots(wanted) {
  wantedNow = wanted;
  const available = new Set(DATA.available[wanted.column]);
  for (const figure of figures) {
    figure.hidden = !available.has(figure.dataset.plot);
    delete figure.dataset.drawn;
  }
  await drawVisible();
  drawRest();
}

const observer = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) isIntersecting ? inView.add(target) : inView.delete(target);
  if (wantedNow) drawVisible();
}, { rootMargin: "200px" });
for (const figure of figures) {
  observer.observe(figure);
  figure.querySelector(".save").addEventListener("click", () => saveFigure(figure));
}

// The drawing's colours are variables of the page; a file of its own needs their values.
function saveFigure(figure) {
  const style = getComputedStyle(document.documentElement);
  const drawing = figure.querySelector("svg");
  if (!drawing) return;
  const text = new XMLSerializer().serializeToString(drawing);
  const coloured = text.replace(/var\((--[a-z]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
  save(`${figure.dataset.plot}.svg`, "image/svg+xml", coloured);
}
