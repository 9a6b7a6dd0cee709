/* The state of the view: what is shown, in which order, and where the cursor stands. It is kept in the page's address. */

const DEFAULTS = {
  q: "", verdict: "", state: "", model: "", tag: "", problem: "", stars: "",
  sort: "", mode: "grid", size: "m", charts: "", at: "", open: "",
};
const FILTERS = ["q", "verdict", "state", "model", "tag", "problem", "stars"];
const ADDRESS_DELAY_MS = 250; // Browsers refuse more than some ten changes of the address a second.
const view = { ...DEFAULTS };
let addressTimer = 0;

function readAddress() {
  const values = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(DEFAULTS)) view[name] = values.get(name) ?? DEFAULTS[name];
  if (!["grid", "matrix"].includes(view.mode)) view.mode = "grid";
  if (!["s", "m", "l"].includes(view.size)) view.size = "m";
  if (!view.charts) view.charts = matchMedia("(max-width: 40rem)").matches ? "no" : "yes";
}

function addressOfView() {
  const values = new URLSearchParams();
  for (const [name, value] of Object.entries(view)) if (value !== DEFAULTS[name] && value !== "yes") values.set(name, value);
  return `#${values}`;
}

function writeAddressSoon() {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => history.replaceState(null, "", addressOfView()), ADDRESS_DELAY_MS);
}

/** Change the view, and show what follows from it. */
function setView(changes) {
  const refilters = Object.keys(changes).some((name) => name !== "at" && name !== "open" && name !== "charts");
  Object.assign(view, changes);
  writeAddressSoon();
  if (refilters) showClips();
}
