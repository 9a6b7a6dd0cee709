/* Filters: which clips are shown, in which order, and how many each choice would show. */

const SORTS = {
  "": ["Manifest order", null],
  newest: ["Newest first", (clip) => -clip.ended],
  stars: ["Most stars first", (clip) => -clip.stars],
  cost: ["Highest cost first", (clip) => -clip.cost],
};
const PROBLEM_WORDS = { unlike_input: "unlike its image", length: "wrong length" };

function wordsOf(problem) {
  return PROBLEM_WORDS[problem] || problem.replaceAll("_", " ");
}

/** The numbers of the shared texts that hold `word`, by kind, so that each text is searched once and not once a clip. */
function matchesOf(word) {
  return Object.fromEntries(["model", "prompt", "image", "params", "error"].map((kind) => [
    kind,
    shared[kind].values.map((text) => (typeof text === "string" ? text : text.flat().join(" ")).toLowerCase().includes(word)),
  ]));
}

function textTest(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean).map((word) => [word, matchesOf(word)]);
  return (clip) => words.every(([word, hits]) =>
    clip.id.toLowerCase().includes(word) || hits.prompt[clip.prompt] || hits.params[clip.params] ||
    hits.image[clip.image] || hits.model[clip.model] || hits.error[clip.error] ||
    clip.tags.some((tag) => tag.toLowerCase().includes(word)));
}

/** The lists of choices: the one value that a clip has in each, or an array of its values. */
const VALUES = {
  verdict: (clip) => clip.verdict || (isDelivered(clip) ? "undecided" : NONE),
  state: (clip) => clip.state,
  model: (clip) => textOf(clip, "model"),
  tag: (clip) => clip.tags,
  problem: (clip) => (clip.problems.length ? ["any", ...clip.problems.map(([problem]) => problem)] : NONE),
  stars: (clip) => STARS[clip.stars],
};
const STARS = [NONE, ["1"], ["1", "2"], ["1", "2", "3"], ["1", "2", "3", "4"], ["1", "2", "3", "4", "5"]]; // or more
const LISTS = Object.keys(VALUES);

function hasValue(clip, name, wished) {
  const value = VALUES[name](clip);
  return typeof value === "string" ? value === wished : value.includes(wished);
}

function count(counts, value) {
  if (typeof value === "string") counts.set(value, (counts.get(value) || 0) + 1);
  else for (const one of value) count(counts, one);
}

/**
 * The clips that fit the view, in its order, and for each list how many clips each choice would show.
 *
 * A clip that fails one list's filter alone still counts in that list: choosing its value would show it.
 */
function filterClips() {
  const hasText = view.q.trim() ? textTest(view.q) : null;
  const active = LISTS.filter((name) => view[name]);
  const counts = Object.fromEntries(LISTS.map((name) => [name, new Map()]));
  const fitting = [];
  for (const clip of clips) {
    if (hasText && !hasText(clip)) continue;
    let failed = "";
    let fails = 0;
    for (const name of active) {
      if (hasValue(clip, name, view[name])) continue;
      failed = name;
      if (++fails > 1) break;
    }
    if (fails > 1) continue;
    if (fails) {
      count(counts[failed], VALUES[failed](clip));
      continue;
    }
    fitting.push(clip);
    for (const name of LISTS) count(counts[name], VALUES[name](clip));
  }
  const key = (SORTS[view.sort] || SORTS[""])[1];
  if (key) fitting.sort((one, other) => key(one) - key(other) || one.index - other.index);
  return { fitting, counts };
}
