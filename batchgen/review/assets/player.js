/* The player of the grid: one video at a time, without sound, over the card that it belongs to. */

const HOVER_MS = 120; // before a clip plays: a pointer that passes over plays nothing
const player = make("video");
player.muted = true;
player.loop = true;
player.playsInline = true;
player.preload = "none";
player.tabIndex = -1;
player.setAttribute("aria-hidden", "true");
let playing = null; // the clip that plays in the grid
let hoverTimer = 0;
const mayHover = matchMedia("(hover: hover) and (prefers-reduced-motion: no-preference)");

function play(clip) {
  const card = visible.get(clip);
  if (!card || !isDelivered(clip) || playing === clip) return;
  const address = videoAddress(clip);
  if (!address) return;
  playing = clip;
  player.style.opacity = "0"; // the poster stays until there is a frame
  player.src = address;
  card.parts.image.after(player);
  start(player);
}

function stopPlaying(card = null) {
  if (!playing || (card && card.clip !== playing)) return;
  playing = null;
  player.pause();
  player.removeAttribute("src");
  player.load(); // closes the file
  player.remove();
}

function togglePlaying(clip) {
  if (playing === clip) stopPlaying();
  else {
    stopPlaying();
    play(clip);
  }
}

function preparePlayer() {
  player.addEventListener("playing", () => { player.style.opacity = "1"; });
  player.addEventListener("error", () => stopPlaying());
  elements.cards.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "mouse" || !mayHover.matches) return;
    const card = event.target.closest(".frame")?.closest(".card");
    clearTimeout(hoverTimer);
    if (!card || card.clip === playing) return;
    hoverTimer = setTimeout(() => {
      stopPlaying();
      play(card.clip);
    }, HOVER_MS);
  });
  elements.cards.addEventListener("pointerout", (event) => {
    const frame = event.target.closest(".frame");
    if (event.pointerType !== "mouse" || !mayHover.matches || !frame || frame.contains(event.relatedTarget)) return;
    clearTimeout(hoverTimer);
    stopPlaying();
  });
}
