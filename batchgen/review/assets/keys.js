/* Keys and buttons: what a person does, and which function does it. */

const KEYS = [
  ["← ↑ → ↓", "move"],
  ["Enter", "open the clip"],
  ["Space", "play, pause"],
  ["P", "pick, and go on; again takes it back"],
  ["X", "reject, and go on"],
  ["1 – 5, 0", "stars or none; with Shift, and go on"],
  ["U", "undo"],
  ["C", "compare the marked clips, else the takes of this one, else two neighbours"],
  ["M", "mark for a comparison of up to four"],
  ["G", "grid or matrix"],
  ["/", "search"],
  ["Esc", "close, leave the search"],
  ["?", "these keys"],
];

/** Judge the current clip; after a verdict the cursor moves on. */
function judgeCurrent(change, movesOn) {
  const clip = current;
  if (!clip) return;
  const place = positions[clip.index];
  const next = order[place + 1];
  const isSet = judge(clip, change);
  if (!movesOn || !isSet) return;
  if (elements.viewer.open && isComparing) stepInViewer(1);
  else if (next && current === clip) moveTo(next);
  else if (current) moveTo(current);
  if (elements.viewer.open && !isComparing && current !== panes[0]?.clip) showPanes([current]);
}

function toggleMark(clip) {
  if (!clip || !isDelivered(clip)) return;
  if (!clip.marked && markedClips().length >= COMPARED_MAX) {
    say(`at most ${COMPARED_MAX} clips can be compared`);
    return;
  }
  clip.marked = !clip.marked;
  say(`${clip.id} ${clip.marked ? "marked" : "not marked"}`);
  showMarks();
}

function showMarks() {
  const marked = markedClips();
  elements.tray.hidden = !marked.length;
  elements["tray-text"].textContent = `${plural(marked.length, "clip")} marked${marked.length < 2 ? ": mark one more with M to compare" : ""}`;
  elements["tray-open"].disabled = marked.length < 2;
  for (const [clip, card] of visible) fillVerdict(card, clip);
}

const COMMANDS = {
  p: () => judgeCurrent({ verdict: "picked" }, true),
  x: () => judgeCurrent({ verdict: "rejected" }, true),
  u: undo,
  c: toggleComparison,
  m: () => toggleMark(current),
  g: () => setView({ mode: view.mode === "grid" ? "matrix" : "grid" }),
  "?": () => elements.help.showModal(),
};
const GRID_COMMANDS = {
  ArrowLeft: () => moveBy(-1),
  ArrowRight: () => moveBy(1),
  ArrowUp: () => moveRows(-1),
  ArrowDown: () => moveRows(1),
  PageUp: () => moveRows(-rowsInWindow()),
  PageDown: () => moveRows(rowsInWindow()),
  Home: () => moveTo(order[0]),
  End: () => moveTo(order[order.length - 1]),
  Enter: () => current && openViewer([current]),
  " ": () => current && togglePlaying(current),
  "/": () => focusSearch(),
};
const VIEWER_COMMANDS = {
  ArrowLeft: () => stepInViewer(-1),
  ArrowRight: () => stepInViewer(1),
  ArrowUp: () => (isComparing ? stepGroup(-1) : stepInViewer(-1)),
  ArrowDown: () => (isComparing ? stepGroup(1) : stepInViewer(1)),
  Enter: () => isComparing && current && openViewer([current]),
  " ": () => togglePause(),
};

function focusSearch() {
  elements.filters.classList.add("open");
  elements.q.focus();
  elements.q.select();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const { target } = event;
  if (target === elements.q) {
    if (event.key === "Escape" || event.key === "Enter" || event.key === "ArrowDown") {
      if (event.key === "Escape" && view.q) setView({ q: (elements.q.value = "") });
      event.preventDefault();
      elements.q.blur();
      moveTo(current);
    }
    return;
  }
  const isControl = target.closest("button, select, a");
  if (elements.help.open || (isControl && [" ", "Enter"].includes(event.key))) return;
  if (target.matches("select") && event.key.startsWith("Arrow")) return;
  const digit = /^Digit([0-5])$/.exec(event.code);
  const commands = elements.viewer.open ? VIEWER_COMMANDS : GRID_COMMANDS;
  const command = commands[event.key] || COMMANDS[event.key.toLowerCase()];
  if (digit && (event.shiftKey || event.key === digit[1])) {
    judgeCurrent({ stars: Number(digit[1]) }, event.shiftKey);
  } else if (command) {
    command();
  } else {
    return;
  }
  event.preventDefault();
}

/** A button of a verdict or of stars, on a card or in the viewer. */
function onJudgeButton(button, clip) {
  setCurrent(clip);
  const { verdict, stars } = button.dataset;
  if (verdict) judge(clip, { verdict });
  if (stars) judge(clip, { stars: Number(stars) });
}

function prepareKeys() {
  for (const [key, words] of KEYS) {
    const term = make("dt");
    term.append(make("kbd", "", key));
    elements.keys.append(term, make("dd", "", words));
  }
  document.addEventListener("keydown", onKey);
  elements.cards.addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    const button = event.target.closest("button");
    if (!card) return;
    if (button) onJudgeButton(button, card.clip);
    else {
      setCurrent(card.clip);
      if (event.ctrlKey || event.metaKey) toggleMark(card.clip);
      else if (event.target.closest(".frame")) openViewer([card.clip]);
    }
  });
  elements.cards.addEventListener("focusin", ({ target }) => {
    const card = target.closest(".card");
    if (card?.clip && card.clip !== current) setCurrent(card.clip);
  });
  elements.panes.addEventListener("click", ({ target }) => {
    const button = target.closest(".judge button");
    const pane = panes.find(({ element }) => element.contains(target));
    if (button && pane) onJudgeButton(button, pane.clip);
  });
  elements["tray-open"].addEventListener("click", openComparison);
  elements["tray-clear"].addEventListener("click", () => {
    for (const clip of clips) clip.marked = false;
    showMarks();
  });
}
