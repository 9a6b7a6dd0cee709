/* The viewer: one clip large with all that is known of it, or two to four side by side, playing in step. */

const COMPARED_MAX = 4;
const STEP_SECONDS = 0.12; // so far apart two clips may be before the later one is moved
let panes = []; // { clip, element, video } of the viewer
let isComparing = false;
let isPaused = false;

function openViewer(group) {
  stopPlaying();
  isComparing = group.length > 1;
  if (!elements.viewer.open) {
    isPaused = matchMedia("(prefers-reduced-motion: reduce)").matches;
    elements.viewer.showModal();
  }
  showPanes(group);
}

function showPanes(group) {
  closePanes();
  panes = group.map(makePane);
  if (isComparing) showDifferences();
  elements.panes.replaceChildren(...panes.map(({ element }) => element));
  setView({ open: group.map((clip) => encodeURIComponent(clip.id)).join(",") });
  if (!group.includes(current)) moveTo(group[0]);
  showInViewer();
  playInStep();
}

/** Mark the facts in which the clips of a comparison differ. */
function showDifferences() {
  const lists = panes.map(({ element }) => [...element.querySelectorAll(".facts dd")]);
  for (const value of lists.flat()) {
    const isSame = (other) => other.dataset.name === value.dataset.name && other.textContent === value.textContent;
    value.classList.toggle("differs", !lists.every((values) => values.some(isSame)));
  }
}

function closePanes() {
  for (const { video } of panes) {
    video?.pause();
    video?.removeAttribute("src");
    video?.load(); // closes the file
  }
  panes = [];
}

function makePane(clip) {
  const element = make("section", "pane");
  element.setAttribute("aria-label", clip.id);
  const stage = make("div", "stage");
  const pane = { clip, element, video: null };
  if (isDelivered(clip) && !videoAddress(clip)) {
    stage.append(make("p", "why", `This video is in an object store. batchgen review plays it: ${videoPath(clip)}`));
  } else if (isDelivered(clip)) {
    const video = (pane.video = make("video"));
    video.muted = true;
    video.playsInline = true;
    video.loop = !isComparing;
    video.controls = !isComparing;
    video.preload = "auto";
    video.src = videoAddress(clip);
    video.addEventListener("play", () => showPaused(pane, false));
    video.addEventListener("pause", () => showPaused(pane, true));
    video.addEventListener("error", () => {
      if (!panes.includes(pane)) return;
      stage.replaceChildren(make("p", "why", "This file cannot be played: it was moved or deleted, or the browser lacks its codec."));
    });
    stage.append(video);
  } else {
    const why = make("p", "why");
    fillReason(why, clip, Infinity);
    stage.append(why);
  }
  const panel = make("div", "judge");
  panel.append(makeJudge());
  element.append(stage, panel, details(clip, pane));
  element.addEventListener("pointerdown", () => {
    if (isComparing) setCurrent(clip);
    showInViewer();
  });
  return pane;
}

/** All that the page has of a clip. The server has the texts that were cut. */
function details(clip, pane) {
  const element = make("div", "details");
  const prompt = make("p", "prompt", textOf(clip, "prompt"));
  element.append(make("h3", "id", clip.id), prompt);
  const facts = make("dl", "facts");
  const addFact = (name, value) => {
    if (!value) return;
    facts.append(make("dt", "", name), make("dd", "", value));
    facts.lastChild.dataset.name = name;
  };
  addFact("model", textOf(clip, "model"));
  addFact("image", textOf(clip, "image"));
  for (const [name, value] of shared.params.values[clip.params] || NONE) addFact(name, value);
  addFact("take", clip.take > 1 ? String(clip.take) : "");
  addFact("cost", clip.cost ? dollars(clip.cost) : "");
  addFact("made in", clip.seconds ? duration(clip.seconds) : "");
  const size = clip.width ? `${clip.width} × ${clip.height}` : "";
  addFact("size", [size, clip.length ? duration(clip.length) : ""].filter(Boolean).join(", "));
  addFact("tags", clip.tags.join(", "));
  for (const problem of clip.problems) addFact(problemWords(problem), problem[1] || "yes");
  element.append(facts);
  if (isDelivered(clip)) {
    const numbers = [1, ...(clip.more || NONE).map((_, place) => place + 2)];
    const files = make("p", "meta");
    for (const number of numbers) {
      if (!videoAddress(clip, number)) {
        files.append(videoPath(clip, number), " ");
        continue;
      }
      const link = make("a", "", numbers.length > 1 ? `file ${number}` : "open the file");
      Object.assign(link, { href: videoAddress(clip, number), target: "_blank" });
      files.append(link, " ");
    }
    element.append(files);
  }
  if (page.served && (textOf(clip, "prompt") + textOf(clip, "error")).includes("…")) showWhole(clip, pane, prompt, facts);
  return element;
}

async function showWhole(clip, pane, prompt, facts) {
  try {
    const whole = await (await fetch(`job/${clip.row}`)).json();
    if (!panes.includes(pane)) return;
    prompt.textContent = whole.prompt;
    if (whole.error) facts.append(make("dt", "", "error"), make("dd", "", whole.error));
  } catch { /* the cut text stays */ }
}

/** Show the verdicts, the cursor and the title in the open viewer. */
function showInViewer() {
  if (!elements.viewer.open) return;
  for (const { clip, element } of panes) {
    element.classList.toggle("current", isComparing && clip === current);
    fillJudge(element.querySelector(".judge"), clip);
  }
  const first = panes[0]?.clip;
  const place = first ? positions[first.index] : -1;
  setText(elements["viewer-title"], isComparing ? `${panes.length} clips, in step` :
    place >= 0 ? `${digits(place + 1)} of ${digits(order.length)}` : "");
  namePlayButton();
  setText(elements["viewer-compare"], isComparing ? "One" : "Compare");
  elements["viewer-play"].hidden = !panes.some(({ video }) => video);
}

function namePlayButton() {
  setText(elements["viewer-play"], isPaused ? "Play" : "Pause");
}

function start(video) {
  video.play().catch(() => { /* it was closed before it began, or cannot be played, which its own event says */ });
}

/** Play all panes from the same moment: the longest clip leads, and the others follow it. */
function playInStep() {
  const videos = panes.map(({ video }) => video).filter(Boolean);
  const shown = panes;
  const begin = () => {
    if (shown !== panes) return;
    videos.sort((one, other) => (other.duration || 0) - (one.duration || 0));
    if (!isPaused) videos.forEach(start);
  };
  if (!isComparing) {
    begin();
    return;
  }
  Promise.all(videos.map((video) => new Promise((ready) => {
    video.addEventListener("canplay", ready, { once: true });
    video.addEventListener("error", ready, { once: true });
  }))).then(begin);
  const follow = () => {
    if (shown !== panes) return;
    const [leader, ...others] = videos;
    if (leader?.ended) {
      for (const video of videos) {
        video.currentTime = 0;
        start(video);
      }
    } else if (leader && !leader.paused) {
      for (const video of others) {
        const time = Math.min(leader.currentTime, video.duration || 0);
        if (Math.abs(video.currentTime - time) > STEP_SECONDS && !video.seeking) video.currentTime = time;
        if (video.paused && !video.ended && time < video.duration) start(video);
      }
    }
    requestAnimationFrame(follow);
  };
  requestAnimationFrame(follow);
}

function togglePause() {
  isPaused = !isPaused;
  for (const { video } of panes) {
    if (isPaused) video?.pause();
    else if (video) start(video);
  }
  namePlayButton();
}

/** A clip alone has the browser's own controls as well. */
function showPaused(pane, isNow) {
  if (isComparing || !panes.includes(pane)) return;
  isPaused = isNow;
  namePlayButton();
}

function markedClips() {
  return clips.filter(({ marked }) => marked);
}

/** The clips to compare with one: those that are marked, else its other takes, else the next ones. */
function comparedWith(clip) {
  const marked = markedClips();
  if (marked.length > 1) return marked.slice(0, COMPARED_MAX);
  if (marked.length === 1 && marked[0] !== clip && isDelivered(clip)) return [marked[0], clip];
  const delivered = order.filter(isDelivered);
  const takes = delivered.filter((other) => other.prompt === clip.prompt && other.image === clip.image);
  const isOfTakes = takes.length > 1;
  const candidates = isOfTakes ? takes : delivered;
  const beside = isOfTakes ? COMPARED_MAX : 2;
  const next = candidates.findIndex((other) => positions[other.index] >= positions[clip.index]);
  const begin = next < 0 ? candidates.length : isOfTakes ? Math.floor(next / beside) * beside : next;
  return candidates.slice(Math.max(0, Math.min(begin, candidates.length - 2))).slice(0, beside);
}

function openComparison() {
  const compared = current ? comparedWith(current) : [];
  if (compared.length > 1) openViewer(compared);
  else say("there are no two clips to compare");
}

function toggleComparison() {
  if (isComparing && elements.viewer.open) openViewer([current]);
  else openComparison();
}

/** To the next clip in the viewer; in a comparison, to the next pane. */
function stepInViewer(places) {
  if (isComparing) {
    const pane = panes[panes.findIndex(({ clip }) => clip === current) + places];
    if (pane) moveTo(pane.clip);
    showInViewer();
    return;
  }
  moveBy(places);
  if (current && current !== panes[0]?.clip) showPanes([current]);
}

/** To the next group of takes, or of neighbours. */
function stepGroup(direction) {
  const places = panes.map(({ clip }) => positions[clip.index]).filter((place) => place >= 0);
  const clip = order[direction > 0 ? Math.max(...places) + 1 : Math.min(...places) - 1];
  if (!clip) return;
  moveTo(clip);
  const compared = comparedWith(clip);
  if (compared.length > 1) showPanes(compared);
}

function prepareViewer() {
  elements["viewer-close"].addEventListener("click", () => elements.viewer.close());
  elements["viewer-play"].addEventListener("click", togglePause);
  elements["viewer-compare"].addEventListener("click", toggleComparison);
  elements["viewer-previous"].addEventListener("click", () => stepInViewer(-1));
  elements["viewer-next"].addEventListener("click", () => stepInViewer(1));
  elements.viewer.addEventListener("close", () => {
    closePanes();
    elements.panes.replaceChildren();
    setView({ open: "" });
    if (current) moveTo(current);
  });
}
