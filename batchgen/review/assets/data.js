/* The data: rows become clips, with the numbers of the texts that clips share. */

const page = readJSON("data");
const posters = document.getElementById("posters") ? readJSON("posters") : {};
const FIELDS = page.fields;
const STATES = page.states;
const NUMBERED = ["model", "prompt", "image", "params", "folder", "error"];
const VERDICTS = ["", "picked", "rejected"];

/** Shared texts by kind. Number 0 is the empty one. */
const shared = Object.fromEntries(NUMBERED.map((kind) => [kind, { values: [""], numbers: new Map() }]));
const clips = [];
const clipById = new Map();

function readJSON(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

/** The numbers here of the texts of a document, by their numbers there. */
function numbersOf(kind, texts) {
  const { values, numbers } = shared[kind];
  return [0, ...texts.map((text) => {
    const key = typeof text === "string" ? text : JSON.stringify(text);
    // Texts that were cut may read the same and differ: within one document each keeps its number.
    if (texts === page.shared[kind] || !numbers.has(key)) {
      numbers.set(key, values.length);
      values.push(text);
    }
    return numbers.get(key);
  })];
}

/** Add the rows of a document, or bring clips up to date with them. Returns the clips. */
function mergeRows(update) {
  const numbers = Object.fromEntries(NUMBERED.map((kind) => [kind, numbersOf(kind, update.shared[kind])]));
  return update.rows.map((row) => {
    const values = {};
    for (let place = 0; place < FIELDS.length; place++) {
      const name = FIELDS[place];
      const value = row[place] || 0;
      values[name] = name in numbers ? numbers[name][value] : value;
    }
    values.state = STATES[values.state];
    values.verdict = VERDICTS[values.verdict];
    values.tags = values.tags || NONE;
    values.problems = values.problems || NONE;
    values.marked = false;
    const older = clipById.get(values.id);
    if (older) {
      delete values.marked;
      return Object.assign(older, values);
    }
    values.index = clips.length;
    clips.push(values);
    clipById.set(values.id, values);
    return values;
  });
}
const NONE = Object.freeze([]);

function textOf(clip, kind) {
  return shared[kind].values[clip[kind]];
}

/** A model without its vendor: the names of one vendor's models differ at their end. */
function shortModel(name) {
  return name.slice(name.indexOf("/") + 1);
}

/** The last part of a path or a link. */
function baseName(path) {
  return path.replace(/[?#].*$/s, "").replace(/\/+$/, "").replace(/^.*\//s, "") || path;
}

function isDelivered(clip) {
  return clip.clip !== 0;
}

/** The path of a delivered file, or its URL in an object store. */
function videoPath(clip, number = 1) {
  if (number > 1) return clip.more[number - 2];
  const name = clip.name || `${clip.id}.mp4`;
  const folder = textOf(clip, "folder");
  return folder ? `${folder}/${name}` : name;
}

/** The address of a delivered file: from the server by its row, else relative to this page; "" in an object store. */
function videoAddress(clip, number = 1) {
  if (page.served) return `video/${clip.row}/${number}`;
  const path = videoPath(clip, number);
  if (path.includes("://")) return "";
  return page.videos + path.split("/").map(encodeURIComponent).join("/");
}

/** The address of a clip's poster; "" where there is none. */
function posterAddress(clip) {
  if (!clip.poster) return "";
  if (page.served) return `poster/${clip.row}?${clip.clip}`;
  const inline = posters[clip.clip];
  return inline ? `data:image/webp;base64,${inline}` : `${page.posters}${clip.clip}.webp`;
}

function dollars(amount) {
  return `$${amount.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: amount < 1 ? 4 : 2 })}`;
}

/** A length of time: 9 s, 3 m 20 s, 2 h 05 m. */
function duration(seconds) {
  const whole = Math.round(seconds);
  const pad = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${seconds < 10 ? Math.round(seconds * 10) / 10 : whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${pad(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} m`;
}

function digits(number) {
  return number.toLocaleString("en-US");
}

function plural(number, noun) {
  return `${digits(number)} ${noun}${number === 1 ? "" : "s"}`;
}
