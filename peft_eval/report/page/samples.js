// The samples behind a score: question, answers of each seed, references, scores; a page of them at a time.
const samplesDialog = document.getElementById("samples");
const ON_A_PAGE = 20;
let shownSamples = null;

async function openSamples(row, column) {
  const { suite, metric } = DATA.columns[column];
  const answers = await unpack(row);
  shownSamples = { row, suite, metric, answers: answers ?? {}, page: 0 };
  document.getElementById("samples-title").textContent = `${DATA.rows[row].name}: ${suite} ${metric}`;
  const tasks = (DATA.suites[suite] ?? []).filter((number) => number in shownSamples.answers);
  controlOf("task").replaceChildren(...tasks.map((number) => make("option", DATA.tasks[number], { value: number })));
  const others = Object.entries(DATA.rows).filter(([id]) => id !== row);
  controlOf("beside").replaceChildren(make("option", "nothing", { value: "" }), ...others.map(([id, one]) => make("option", one.name, { value: id })));
  const base = DATA.bases[DATA.rows[row].base];
  if (base && base !== row) controlOf("beside").value = base;
  history.replaceState(null, "", `#samples-${row}-${column}`);
  if (!samplesDialog.open) samplesDialog.showModal();
  await showSamples();
}

function controlOf(name) {
  return samplesDialog.querySelector(`[name=${name}]`);
}

// A metric of a filter is `exact_match,strict-match` in the samples as in the table.
function scoreOf(answers, metric) {
  const known = answers.filter(Boolean).map((one) => one[2][metric]).filter((value) => value !== undefined);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

async function showSamples() {
  const { answers, metric, row } = shownSamples;
  const task = controlOf("task").value;
  const list = samplesDialog.querySelector(".list");
  const items = [...(answers[task] ?? [])];
  const sign = { worst: 1, best: -1 }[controlOf("order").value];
  if (sign) items.sort((a, b) => sign * ((scoreOf(a[1], metric) ?? 0) - (scoreOf(b[1], metric) ?? 0)));
  const beside = controlOf("beside").value;
  const [questions, others] = await Promise.all([unpack(`q${task}`), beside ? unpack(beside) : null]);
  const theirs = new Map((others?.[task] ?? []));
  const pages = Math.max(1, Math.ceil(items.length / ON_A_PAGE));
  shownSamples.page = Math.min(Math.max(shownSamples.page, 0), pages - 1);
  const from = shownSamples.page * ON_A_PAGE;
  list.replaceChildren(...items.slice(from, from + ON_A_PAGE).map(([number, each], index) => {
    const [prompt, references] = questions[number];
    const article = make("article");
    article.append(make("h3", `Question ${from + index + 1}`), make("pre", prompt, { tabindex: "0" }), make("h4", "Reference"), make("pre", references.join("\n― or ―\n")));
    const grid = make("div", "", { class: "answers" });
    grid.append(...answersOf(row, each));
    if (beside) grid.append(...answersOf(beside, theirs.get(number) ?? [null]));
    article.append(grid);
    return article;
  }));
  if (!items.length) list.append(make("p", "No samples were kept."));
  list.scrollTop = 0;
  const [previous, next] = samplesDialog.querySelectorAll(".pager button");
  previous.disabled = shownSamples.page === 0;
  next.disabled = shownSamples.page === pages - 1;
  samplesDialog.querySelector(".pager span").textContent = items.length
    ? `${from + 1}–${Math.min(from + ON_A_PAGE, items.length)} of ${items.length}` : "";
}

function answersOf(row, each) {
  return each.map((answer, index) => {
    const part = make("div");
    const head = make("h4");
    const seed = DATA.rows[row].seeds[index];
    head.append(make("b", DATA.rows[row].name), seed ? ` ${seed}` : "");
    if (!answer) {
      part.append(head, make("p", "was not asked this", { class: "quiet" }));
      return part;
    }
    const [text, filtered, scores] = answer;
    head.append(" · " + Object.entries(scores).map(([name, value]) => `${name} ${value}`).join(", "));
    part.append(head, make("pre", text === "" ? "(empty)" : text, { tabindex: "0" }));
    if (filtered) part.append(make("h4", "after the filter"), make("pre", filtered));
    return part;
  });
}

samplesDialog.querySelector(".controls").addEventListener("input", () => {
  shownSamples.page = 0;
  showSamples();
});
for (const button of samplesDialog.querySelectorAll(".pager button")) {
  button.addEventListener("click", () => {
    shownSamples.page += Number(button.dataset.by);
    showSamples();
  });
}
samplesDialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
