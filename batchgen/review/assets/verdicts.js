/* Verdicts: kept by the server, or in this browser and handed back as a file. Undo is a history. */

const STORE = `batchgen/${page.batch}/`;
const done = []; // judgements with what they replaced, the newest last
const unsaved = new Map(); // served: judgements that the server does not have yet, by id
let storage = null; // null: this browser keeps nothing, and verdicts live as long as the page
const changed = new Map(); // file: what is handed back, by id

function judgementOf(clip) {
  return { verdict: clip.verdict, stars: clip.stars };
}

/**
 * Judge a clip. `change` has a verdict or stars; what a clip has already is taken back by saying it again.
 * False where nothing was said in the end.
 */
function judge(clip, change) {
  if (!isDelivered(clip)) {
    say(`${clip.id} has no clip to judge`);
    return false;
  }
  const before = judgementOf(clip);
  const after = { ...before, ...change };
  if (change.verdict && change.verdict === before.verdict) after.verdict = "";
  if (change.stars && change.stars === before.stars) after.stars = 0;
  done.push({ clip, before });
  apply(clip, after);
  return Object.keys(change).every((name) => after[name] === change[name]);
}

/** Take the newest judgement back. */
function undo() {
  const step = done.pop();
  if (!step) {
    say("nothing to undo");
    return;
  }
  apply(step.clip, step.before);
  moveTo(step.clip);
}

function apply(clip, judgement) {
  const names = Object.keys(judgement).filter((name) => judgement[name] !== clip[name]);
  Object.assign(clip, judgement);
  const words = [clip.verdict || "undecided", clip.stars ? plural(clip.stars, "star") : ""].filter(Boolean).join(", ");
  say(`${clip.id}: ${words}`);
  const entries = page.served ? unsaved : changed;
  const entry = {
    id: clip.id, clip: clip.clip, verdict: clip.verdict || null, stars: clip.stars || null, at: new Date().toISOString(),
    changed: [...new Set([...(entries.get(clip.id)?.changed || []), ...names])],
  };
  entries.set(clip.id, entry);
  if (page.served) sendVerdicts();
  else keep(entry);
  showVerdict(clip);
}

/** What was said here of a clip, and no more: another person, or another window, may say the rest. */
function said({ id, clip, at, changed: names, ...judgement }) {
  return { id, clip, at, ...Object.fromEntries(names.map((name) => [name, judgement[name]])) };
}

let isSending = false;

/** Send what is not saved yet, one after another, so that a later verdict on a clip never arrives first. */
async function sendVerdicts() {
  if (isSending) return;
  isSending = true;
  try {
    while (unsaved.size) {
      const [entry] = unsaved.values();
      const body = JSON.stringify(said(entry));
      const answer = await fetch("verdicts", { method: "POST", headers: { "content-type": "application/json" }, body });
      if (answer.status === 503) throw new Error((await answer.json()).why);
      if (!answer.ok && ![400, 409].includes(answer.status)) throw new TypeError(String(answer.status));
      if (unsaved.get(entry.id) === entry) unsaved.delete(entry.id);
      if (answer.status === 400) notice(`The verdict on ${entry.id} was refused: reload the page.`);
      if (answer.status === 409) notice(`${entry.id} has another clip by now: reload the page and judge that.`);
    }
    if (!unsaved.size && elements.notice.dataset.about === "saving") notice("");
  } catch (error) {
    // Without an answer, fetch throws a TypeError.
    const why = error instanceof TypeError ? "batchgen review does not answer" : error.message;
    notice(`${plural(unsaved.size, "verdict")} not stored: ${why}. “Save verdicts” keeps them in a file.`, "saving");
    elements["save-button"].hidden = false;
  } finally {
    isSending = false;
  }
}

// The browser asks before it closes a page whose verdicts nobody has stored yet.
window.addEventListener("beforeunload", (event) => unsaved.size && event.preventDefault());

function notice(text, about = "") {
  elements.notice.textContent = text;
  elements.notice.dataset.about = about;
  elements.notice.hidden = !text;
}

function keep(entry) {
  try {
    storage?.setItem(STORE + JSON.stringify([entry.id, entry.clip]), JSON.stringify(entry));
  } catch {
    storage = null;
  }
  if (!storage) {
    notice("This browser keeps nothing for this page: press “Save verdicts” before you close it.");
  }
}

/** Read what this browser kept. A newer verdict in the batch counts instead. */
function readStorage() {
  if (page.served) return;
  try {
    storage = window.localStorage;
    for (let place = 0; place < storage.length; place++) {
      const key = storage.key(place);
      if (!key.startsWith(STORE)) continue;
      const entry = entryOf(storage.getItem(key));
      const clip = entry && clipById.get(entry.id);
      if (!clip || clip.clip !== entry.clip || Date.parse(entry.at) / 1000 <= clip.judged) continue;
      for (const name of entry.changed) clip[name] = entry[name] || (name === "stars" ? 0 : "");
      changed.set(entry.id, entry);
    }
  } catch {
    storage = null;
  }
}

/** A stored entry, if it is one. */
function entryOf(text) {
  try {
    const entry = JSON.parse(text);
    const isEntry = VERDICTS.includes(entry.verdict || "") && (entry.stars || 0) in STARS && Date.parse(entry.at);
    const names = ["verdict", "stars"];
    return isEntry ? { ...entry, changed: names.filter((name) => (entry.changed || names).includes(name)) } : null;
  } catch {
    return null;
  }
}

/** Hand the verdicts back as a file, which `batchgen verdicts import` reads. */
function downloadVerdicts() {
  const verdicts = [...(page.served ? unsaved : changed).values()].map(said);
  const text = JSON.stringify({ format: "batchgen verdicts", version: 1, batch: page.batch, verdicts }, null, 1);
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `${page.batch}-verdicts.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  say(`${plural(verdicts.length, "verdict")} in ${link.download}`);
}
