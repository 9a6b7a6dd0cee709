/* The grid: of all clips that fit, only the cards near the window are in the document. */

const CARD_WIDTHS = { s: 170, m: 250, l: 380 }; // in CSS pixels of a card, at least
const GAP = 12; // pixels between cards
let bodyHeight = 0; // of a card below its frame, in the layout `bodyMode`
let bodyMode = "";
let frameShape = 16 / 9; // width by height
const AHEAD = 0.5; // windows of cards that are kept before and after the one in view, for quick scrolling
let order = []; // the clips in the order in which the cursor visits them
let positions = new Int32Array(0); // of each clip in `order`, by the clip's index; -1 where it is not shown
let layout = null;
let current = null; // the clip under the cursor
const visible = new Map(); // clip → its card in the document
const spare = []; // cards to fill again
const FAR = 1e5; // a pixel down counts more than any to the side
let isDrawing = false;
let drawnTop = 0; // where the window stood when cards were drawn last

/** Measure what depends on the fonts and on the clips: the text of a card, and the shape of the frames. */
function measure() {
  measureBody();
  // The shape of most clips, so that little of a card stays empty.
  const shapes = clips.filter((clip) => clip.width && clip.height).slice(0, 500).map((clip) => clip.width / clip.height);
  shapes.sort((one, other) => one - other);
  frameShape = Math.min(16 / 9, Math.max(0.8, shapes[shapes.length >> 1] || 16 / 9));
}

function measureBody() {
  elements.sheet.classList.toggle("matrix", view.mode === "matrix");
  const card = makeCard();
  Object.assign(card.style, { visibility: "hidden", width: "250px", contain: "none" });
  card.parts.id.textContent = card.parts.meta.textContent = "measured";
  elements.cards.append(card);
  bodyHeight = card.offsetHeight;
  bodyMode = view.mode;
  card.remove();
}

/** The columns and rows of a plain grid: bands of cards of one size. */
function gridLayout(fitting, width) {
  const least = Math.min(CARD_WIDTHS[view.size], (width - GAP) / 2 - (width < 400 ? 0 : GAP));
  const columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
  const cardWidth = Math.floor((width - GAP * (columns - 1)) / columns);
  const height = Math.round(cardWidth / frameShape) + bodyHeight;
  const bands = [];
  for (let first = 0; first < fitting.length; first += columns) {
    bands.push({ top: (first / columns) * (height + GAP), height, first, end: Math.min(first + columns, fitting.length) });
  }
  return {
    order: fitting, bands, cardWidth, cardHeight: height, width, height: bands.length * (height + GAP),
    left: (place) => (place % columns) * (cardWidth + GAP),
    top: (place) => Math.floor(place / columns) * (height + GAP),
  };
}

/** Filter, order and lay out the clips, and show the window. The cursor stays on its clip, or goes to `next`. */
function showClips(next = null) {
  const { fitting, counts } = filterClips();
  showControls(counts, fitting.length);
  if (bodyMode !== view.mode) measureBody();
  const width = elements.sheet.clientWidth;
  layout = view.mode === "matrix" ? matrixLayout(fitting, width) : gridLayout(fitting, width);
  order = layout.order;
  positions = new Int32Array(clips.length).fill(-1);
  order.forEach((clip, place) => { positions[clip.index] = place; });
  elements.cards.style.height = `${layout.height}px`;
  elements.sheet.style.height = `${layout.height}px`;
  elements.cards.style.width = `${layout.width}px`;
  const previous = current;
  if (!current || positions[current.index] < 0) {
    const wished = next && positions[next.index] >= 0 ? next : clipById.get(view.at);
    current = wished && positions[wished.index] >= 0 ? wished : order[0] || null;
    if (current && view.at) view.at = current.id;
  }
  showWindow(0);
  showCursor(previous);
  drawSoon();
}

/** The bands of which anything lies between two heights. */
function bandsBetween(top, bottom) {
  const { bands } = layout;
  let low = 0;
  let high = bands.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (bands[middle].top + bands[middle].height < top) low = middle + 1;
    else high = middle;
  }
  let end = low;
  while (end < bands.length && bands[end].top <= bottom) end++;
  return bands.slice(low, end);
}

/** Put the cards in the window, and `ahead` of it, into the document, and take the others out. */
function showWindow(ahead = AHEAD) {
  if (!layout) return;
  const { main, sheet, cards } = elements;
  drawnTop = main.scrollTop;
  const start = drawnTop - sheet.offsetTop;
  const margin = main.clientHeight * ahead;
  const bands = bandsBetween(start - margin, start + main.clientHeight + margin);
  const left = main.scrollLeft - layout.cardWidth * 2;
  const right = main.scrollLeft + main.clientWidth + layout.cardWidth;
  const wished = new Set();
  for (const { first, end } of bands) {
    for (let place = first; place < end; place++) {
      if (layout.left(place) >= left && layout.left(place) <= right) wished.add(order[place]);
    }
  }
  if (current && positions[current.index] >= 0) wished.add(current); // or it would lose the keyboard's focus
  for (const [clip, card] of visible) {
    if (wished.has(clip)) continue;
    visible.delete(clip);
    stopPlaying(card);
    card.clip = null;
    if (spare.length < 60) spare.push(card);
    card.remove();
  }
  for (const clip of wished) {
    let card = visible.get(clip);
    if (card?.layout === layout) continue;
    if (!card) {
      card = spare.pop() || makeCard();
      visible.set(clip, card);
    }
    placeCard(card, clip);
    if (!card.isConnected) cards.append(card);
  }
  if (layout.showHeadings) layout.showHeadings(bands, left, right);
  else if (elements.rows.firstChild) clearHeadings();
}

function placeCard(card, clip) {
  const place = positions[clip.index];
  if (card.clip !== clip) fillCard(card, clip);
  card.layout = layout;
  card.style.width = `${layout.cardWidth}px`;
  card.style.height = `${layout.cardHeight}px`;
  card.style.transform = `translate(${layout.left(place)}px, ${layout.top(place)}px)`;
  card.parts.frame.style.height = `${layout.cardHeight - bodyHeight}px`;
  card.setAttribute("aria-setsize", order.length);
  card.setAttribute("aria-posinset", place + 1);
}

function drawSoon() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    // After a leap every card is filled again: those in view first.
    const isLeap = Math.abs(elements.main.scrollTop - drawnTop) > elements.main.clientHeight;
    showWindow(isLeap ? 0 : AHEAD);
    if (isLeap) drawSoon();
  });
}

/** Show a changed verdict: the clip may leave the list, and the counts change. */
function showVerdict(clip) {
  const place = positions[clip.index];
  showClips(order[place + 1] || order[place - 1]);
  showCursor(clip);
  showInViewer();
}

/** Put the cursor on a clip where it is: a card must not move away under a pointer. */
function setCurrent(clip) {
  const previous = current;
  current = clip;
  view.at = clip.id;
  writeAddressSoon();
  showWindow();
  showCursor(previous);
}

/** Bring the cards of a clip and of the current one up to date. */
function showCursor(clip) {
  for (const shown of [clip, current]) {
    const card = shown && visible.get(shown);
    if (card) fillVerdict(card, shown);
  }
}

/** Move the cursor to a clip, and bring it into view. */
function moveTo(clip) {
  if (!clip || positions[clip.index] < 0) return;
  const { main, sheet } = elements;
  const place = positions[clip.index];
  const top = sheet.offsetTop + layout.top(place);
  const above = layout.headingHeight || 0;
  if (top - above < main.scrollTop) main.scrollTop = top - above - GAP;
  else if (top + layout.cardHeight > main.scrollTop + main.clientHeight) {
    main.scrollTop = top + layout.cardHeight + GAP - main.clientHeight;
  }
  const left = layout.left(place);
  const beside = layout.headingWidth || 0;
  if (left - beside < main.scrollLeft) main.scrollLeft = left - beside;
  else if (left + layout.cardWidth + 2 * GAP > main.scrollLeft + main.clientWidth) {
    main.scrollLeft = left + layout.cardWidth + 2 * GAP - main.clientWidth;
  }
  setCurrent(clip);
  if (!elements.viewer.open) visible.get(clip)?.focus({ preventScroll: true });
}

/** Move the cursor by places, or up and down to the nearest card of another row. */
function moveBy(places) {
  const place = current ? positions[current.index] + places : 0;
  moveTo(order[Math.min(Math.max(place, 0), order.length - 1)]);
}

function moveRows(rows) {
  if (!current) return;
  let place = positions[current.index];
  for (let step = Math.abs(rows); step > 0; step--) place = neighbour(place, Math.sign(rows));
  moveTo(order[place]);
}

/** The nearest card below or above one: the next line first, then the least distance to the side. */
function neighbour(place, direction) {
  const top = layout.top(place);
  const distance = (other) =>
    (layout.top(other) - top) * direction * FAR + Math.abs(layout.left(other) - layout.left(place));
  let best = place;
  for (const { first, end } of bandsBetween(top - layout.cardHeight, top + 2 * layout.cardHeight)) {
    for (let other = first; other < end; other++) {
      if ((layout.top(other) - top) * direction <= 0) continue;
      if (best === place || distance(other) < distance(best)) best = other;
    }
  }
  return best;
}

function rowsInWindow() {
  return Math.max(1, Math.floor(elements.main.clientHeight / (layout.cardHeight + GAP)));
}
