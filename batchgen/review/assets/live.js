/* The served page follows the batch: what a run delivers and what another window judges appears without a reload. */

const FOLLOW_MS = 3000;
let marks = page.marks;

async function follow() {
  let pause = FOLLOW_MS;
  try {
    if (!document.hidden) {
      const answer = await fetch(`changes?marks=${encodeURIComponent(JSON.stringify(marks))}`);
      if (answer.ok) {
        const changes = await answer.json();
        if (JSON.stringify(changes.marks) !== JSON.stringify(marks)) showChanges(changes);
        if (changes.rows.length >= changes.most) pause = 0;
        if (unsaved.size) sendVerdicts();
      }
    }
  } catch { /* the server has ended, or is busy: the next look may reach it */ }
  setTimeout(follow, pause);
}

function showChanges(changes) {
  ({ marks, uncharged: page.uncharged } = changes);
  // What this window has judged and the server has not taken yet is newer than what it says.
  changes.rows = changes.rows.filter((row) => !unsaved.has(row[1]));
  if (!changes.rows.length) return;
  for (const clip of mergeRows(changes)) {
    const card = visible.get(clip);
    if (card) fillCard(card, clip);
  }
  measure();
  showClips();
  showInViewer();
}
