/* A card: one job, with its poster or the reason why there is none. Cards are filled again for other clips. */

const NOTE_CHARS = 300; // of an error on a card; the viewer shows the rest

function makeJudge() {
  const fragment = elements["judge-template"].content.cloneNode(true);
  const stars = fragment.querySelector(".stars");
  for (let number = 1; number <= 5; number++) {
    const button = make("button", "", "★");
    button.dataset.stars = number;
    button.setAttribute("aria-label", plural(number, "star"));
    stars.append(button);
  }
  return fragment;
}

function makeCard() {
  const card = elements["card-template"].content.firstElementChild.cloneNode(true);
  card.querySelector(".judge").append(makeJudge());
  const find = (selector) => card.querySelector(selector);
  card.parts = {
    image: find("img"), why: find(".why"), badges: find(".badges"), stamp: find(".stamp"), length: find(".length"),
    id: find(".id"), prompt: find(".prompt"), meta: find(".meta"), judge: find(".judge"), frame: find(".frame"),
  };
  card.parts.image.addEventListener("error", () => {
    card.parts.image.hidden = true;
    card.parts.why.hidden = false;
    fillReason(card.parts.why, card.clip, NOTE_CHARS);
  });
  return card;
}

/** What a card says under the prompt. */
function factsOf(clip) {
  return [
    clip.take > 1 ? `take ${clip.take}` : "",
    shortModel(textOf(clip, "model")),
    clip.cost ? dollars(clip.cost) : "",
    clip.seconds && isDelivered(clip) ? `made in ${duration(clip.seconds)}` : "",
    ...(shared.params.values[clip.params] || NONE).map(([name, value]) => `${name} ${value}`),
    ...clip.tags.map((tag) => `#${tag}`),
  ].filter(Boolean).join(" · ");
}

function problemWords([problem, detail]) {
  return problem === "near_copy" && detail ? `near copy of ${detail}` : wordsOf(problem);
}

function labelOf(clip) {
  const state = isDelivered(clip) ? clip.verdict || "undecided" : page.missing[clip.state];
  const parts = [clip.id, state, clip.stars ? plural(clip.stars, "star") : "", textOf(clip, "prompt"),
    ...clip.problems.map(problemWords), isDelivered(clip) ? "" : textOf(clip, "error")];
  return parts.filter(Boolean).join(". ");
}

/** Put a clip on a card. */
function fillCard(card, clip) {
  const { image, why, badges, length, id, prompt, meta } = card.parts;
  card.clip = clip;
  const address = posterAddress(clip);
  if (image.getAttribute("src") !== address) {
    image.removeAttribute("src"); // the poster of another clip must not be seen here while this one is read
    if (address) image.src = address;
  }
  image.hidden = !address;
  why.hidden = isDelivered(clip) && Boolean(address);
  if (!why.hidden) fillReason(why, clip, NOTE_CHARS);
  setText(length, clip.length ? duration(clip.length) : "");
  badges.replaceChildren(...clip.problems.map((problem) => make("span", "", problemWords(problem))));
  setText(id, clip.id);
  setText(prompt, textOf(clip, "prompt"));
  setText(meta, factsOf(clip));
  meta.title = meta.textContent;
  fillVerdict(card, clip);
}

/** Why there is nothing to see. */
function fillReason(element, clip, most) {
  const error = textOf(clip, "error");
  const words = isDelivered(clip) ? "No poster" : page.missing[clip.state];
  const text = error.length > most ? `${error.slice(0, most)}…` : error;
  element.replaceChildren(make("b", "", words), make("span", "", isDelivered(clip) ? "Open it to see the clip." : text));
}

function fillVerdict(card, clip) {
  card.className = `card ${clip.verdict} ${clip.state}`;
  card.classList.toggle("current", clip === current);
  card.classList.toggle("marked", clip.marked);
  card.tabIndex = clip === current ? 0 : -1;
  card.setAttribute("aria-label", labelOf(clip));
  setText(card.parts.stamp, { picked: "✓", rejected: "✕" }[clip.verdict] || "");
  fillJudge(card.parts.judge, clip, card.tabIndex);
}

/** Show a verdict on its buttons. Those of a card that is not current are passed over by Tab. */
function fillJudge(panel, clip, tabIndex = 0) {
  panel.classList.toggle("none", !isDelivered(clip));
  for (const button of panel.querySelectorAll("button")) {
    const { verdict, stars } = button.dataset;
    const pressed = String(verdict ? clip.verdict === verdict : clip.stars >= Number(stars));
    if (button.getAttribute("aria-pressed") !== pressed) button.setAttribute("aria-pressed", pressed);
    if (button.tabIndex !== tabIndex) button.tabIndex = tabIndex;
  }
}
