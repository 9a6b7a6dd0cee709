/* The controls above the grid: filters with their counts, order, layout, and the sentences about the batch. */

const CHOICES_MAX = 200; // of one list; a batch may have thousands of tags
const UNCHOSEN = { state: "Any state", model: "Any model", tag: "Any tag", problem: "Any quality", stars: "Any stars" };
const SEGMENTS = {
  verdict: [["", "All"], ["undecided", "Undecided"], ["picked", "Picked"], ["rejected", "Rejected"]],
  mode: [["grid", "Grid"], ["matrix", "Matrix"]],
  size: [["s", "S"], ["m", "M"], ["l", "L"]],
};
const elements = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));

function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Say something to a person who listens to the page. */
function say(text) {
  elements.said.textContent = text;
}

function choiceWords(name, value) {
  if (name === "model") return shortModel(value);
  if (name === "stars") return `★ ${value}${value === "5" ? "" : " or more"}`;
  if (name === "problem") return value === "any" ? "With a problem" : wordsOf(value);
  return value;
}

function showSelect(name, counts) {
  const select = elements[name];
  let values = [...counts.keys()];
  if (view[name] && !counts.has(view[name])) values.push(view[name]);
  if (name === "stars" || name === "tag" || name === "model") values.sort();
  if (name === "state") values.sort((one, other) => STATES.indexOf(one) - STATES.indexOf(other));
  if (name === "problem") values.sort((one, other) => (other === "any") - (one === "any") || one.localeCompare(other));
  values = values.slice(0, CHOICES_MAX);
  const options = [["", UNCHOSEN[name]], ...values.map((value) =>
    [value, `${choiceWords(name, value)} (${digits(counts.get(value) || 0)})`])];
  while (select.options.length > options.length) select.remove(select.options.length - 1);
  options.forEach(([value, text], place) => {
    const option = select.options[place] || select.appendChild(make("option"));
    if (option.value !== value) option.value = value;
    setText(option, text);
  });
  select.value = view[name];
  select.classList.toggle("set", view[name] !== "");
  select.hidden = options.length < 3 && !view[name];
}

function showSegments(name, counts) {
  const group = elements[name];
  if (!group.firstChild) {
    for (const [value, words] of SEGMENTS[name]) {
      const button = make("button", "", words);
      button.dataset.value = value;
      if (counts) button.append(" ", make("small"));
      group.append(button);
    }
  }
  for (const button of group.children) {
    button.setAttribute("aria-pressed", String(view[name] === button.dataset.value));
    if (counts && button.dataset.value) {
      setText(button.querySelector("small"), digits(counts.get(button.dataset.value) || 0));
    }
  }
}

/** Show the filters as the view has them, with the counts of each choice. */
function showControls(counts, shown) {
  for (const name of Object.keys(UNCHOSEN)) showSelect(name, counts[name]);
  showSegments("verdict", counts.verdict);
  showSegments("mode");
  showSegments("size");
  elements.sort.value = view.sort;
  if (elements.q !== document.activeElement) elements.q.value = view.q;
  setText(elements.count, shown === clips.length ? plural(shown, "job") : `${digits(shown)} of ${plural(clips.length, "job")}`);
  elements.clear.hidden = !FILTERS.some((name) => view[name]);
  elements.empty.hidden = shown > 0;
  showSummary();
}

function showSummary() {
  const states = new Map();
  let cost = 0;
  for (const clip of clips) {
    states.set(clip.state, (states.get(clip.state) || 0) + 1);
    cost += clip.cost;
  }
  const parts = STATES.filter((state) => states.has(state)).map((state) =>
    `${digits(states.get(state))} ${state === "done" ? "delivered" : state}`);
  const bill = dollars(Math.round(cost * 1e4) / 1e4) + page.uncharged + (page.simulated ? " (simulated)" : "");
  const span = page.began ? "in " + duration(clips.reduce((latest, clip) => Math.max(latest, clip.ended), page.began) - page.began) : "";
  setText(elements.summary, [...parts, bill, span].filter(Boolean).join(" · "));
}

function prepareControls() {
  for (const [value, [words]] of Object.entries(SORTS)) {
    const option = elements.sort.appendChild(make("option", "", words));
    option.value = value;
  }
  for (const name of [...Object.keys(UNCHOSEN), "sort"]) {
    elements[name].addEventListener("change", () => setView({ [name]: elements[name].value }));
  }
  for (const name of Object.keys(SEGMENTS)) {
    elements[name].addEventListener("click", ({ target }) => {
      const button = target.closest("button");
      if (button) setView({ [name]: button.dataset.value });
    });
  }
  elements.q.addEventListener("input", () => setView({ q: elements.q.value }));
  elements.clear.addEventListener("click", () => setView(Object.fromEntries(FILTERS.map((name) => [name, ""]))));
  elements["filters-button"].addEventListener("click", () => {
    const isOpen = elements.filters.classList.toggle("open");
    elements["filters-button"].setAttribute("aria-expanded", String(isOpen));
  });
  elements["charts-button"].addEventListener("click", () => {
    setView({ charts: elements.charts.hidden ? "yes" : "no" });
    showCharts();
  });
  elements["save-button"].addEventListener("click", downloadVerdicts);
  elements["help-button"].addEventListener("click", () => elements.help.showModal());
  elements["save-button"].hidden = page.served;
}

function showCharts() {
  elements.charts.hidden = view.charts === "no" || !elements.charts.firstElementChild;
  elements["charts-button"].hidden = !elements.charts.firstElementChild;
  elements["charts-button"].setAttribute("aria-expanded", String(!elements.charts.hidden));
  showWindow();
}
