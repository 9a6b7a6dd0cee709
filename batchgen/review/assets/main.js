/* The beginning: data, address, what this browser kept; then the page. */

mergeRows(page);
readStorage();
prepareControls();
preparePlayer();
prepareViewer();
prepareKeys();
showAddress();
window.addEventListener("hashchange", showAddress);
elements.main.addEventListener("scroll", drawSoon, { passive: true });
new ResizeObserver(() => {
  measure();
  showClips();
}).observe(elements.main);
if (page.served) setTimeout(follow, FOLLOW_MS);

/** Show what the address says. */
function showAddress() {
  readAddress();
  showCharts();
  current = clipById.get(view.at) || null;
  showClips();
  if (current && view.at) moveTo(current);
  const opened = view.open.split(",").map((id) => clipById.get(decodeURIComponent(id))).filter(Boolean);
  if (opened.length) openViewer(opened.slice(0, COMPARED_MAX));
  else if (elements.viewer.open) elements.viewer.close();
}
