/* The matrix: a row for each prompt, a column for each input image, and all takes of both in one cell. */

const PROMPT_WIDTH = 190; // pixels of the headings at the left
const HEADING_HEIGHT = 32; // pixels of the headings above
const TAKES_BESIDE = 4; // cards in one line of a cell
const LEAST_WIDTHS = { s: 110, m: 160, l: 260 };

function matrixLayout(fitting, width) {
  const images = [...new Set(fitting.map((clip) => clip.image))].sort((one, other) => (one || 1e9) - (other || 1e9));
  const byPrompt = new Map();
  for (const clip of fitting) {
    let cells = byPrompt.get(clip.prompt);
    if (!cells) byPrompt.set(clip.prompt, (cells = new Map()));
    const cell = cells.get(clip.image);
    if (cell) cell.push(clip);
    else cells.set(clip.image, [clip]);
  }
  const beside = Math.min(TAKES_BESIDE, mostTakes([...byPrompt.values()].flatMap((cells) => [...cells.values()])));
  const headingWidth = Math.min(PROMPT_WIDTH, width / 3);
  const room = (width - headingWidth - GAP) / Math.max(1, images.length) - GAP;
  const cardWidth = Math.round(Math.min(CARD_WIDTHS[view.size], Math.max(LEAST_WIDTHS[view.size], room / beside - GAP / 2)));
  const cardHeight = Math.round(cardWidth / frameShape) + bodyHeight;
  const cellWidth = beside * (cardWidth + GAP / 2) + GAP;
  const columnOf = new Map(images.map((image, column) => [image, column]));

  const visited = [];
  const bands = [];
  const lefts = [];
  const tops = [];
  let top = HEADING_HEIGHT + GAP / 2;
  for (const [prompt, cells] of byPrompt) {
    const height = Math.ceil(mostTakes([...cells.values()]) / beside) * (cardHeight + GAP / 2);
    const band = { top, height, first: visited.length, end: 0, prompt };
    for (const [image, cell] of [...cells].sort(([one], [other]) => columnOf.get(one) - columnOf.get(other))) {
      cell.forEach((clip, place) => {
        visited.push(clip);
        lefts.push(headingWidth + GAP / 2 + columnOf.get(image) * cellWidth + (place % beside) * (cardWidth + GAP / 2));
        tops.push(top + Math.floor(place / beside) * (cardHeight + GAP / 2));
      });
    }
    band.end = visited.length;
    bands.push(band);
    top += height + GAP;
  }
  return {
    order: visited, bands, cardWidth, cardHeight, headingWidth, headingHeight: HEADING_HEIGHT,
    width: Math.max(width, headingWidth + images.length * cellWidth), height: top,
    left: (place) => lefts[place], top: (place) => tops[place],
    showHeadings(shownBands, left, right) {
      showHeadings(elements.rows, shownBands.map((band) => ({
        text: shared.prompt.values[band.prompt] || "No prompt", left: 0, top: band.top, width: headingWidth, height: band.height + GAP / 2,
      })));
      const shownImages = images.filter((_, column) =>
        headingWidth + (column + 1) * cellWidth >= left && headingWidth + column * cellWidth <= right);
      showHeadings(elements.columns, shownImages.map((image) => ({
        text: baseName(shared.image.values[image]) || "No image", title: shared.image.values[image],
        left: headingWidth + columnOf.get(image) * cellWidth, top: 0, width: cellWidth, height: HEADING_HEIGHT,
      })));
    },
  };
}

function mostTakes(cells) {
  return cells.reduce((most, { length }) => Math.max(most, length), 1);
}

function showHeadings(container, headings) {
  while (container.children.length > headings.length) container.lastChild.remove();
  headings.forEach(({ text, title, left, top, width, height }, place) => {
    const heading = container.children[place] || container.appendChild(make("div", "heading"));
    setText(heading, text);
    heading.title = title || text;
    Object.assign(heading.style, {
      transform: `translate(${left}px, ${top}px)`, width: `${width}px`, height: `${height}px`,
    });
  });
}

function clearHeadings() {
  elements.rows.replaceChildren();
  elements.columns.replaceChildren();
}
