"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

for (const image of document.querySelectorAll("img[data-thumbnail]")) {
  image.src = data.thumbnails[Number(image.dataset.thumbnail)];
}

if (data.images) {
  const [view, stage, line, cut, frame, zoom] = ["view", "stage", "line", "cut", "frame", "zoom"].map(byId);
  const sides = ["left", "right"].map((side) => ({
    title: side === "left" ? "Left" : "Right",
    image: byId(side),
    tag: byId(`${side}-tag`),
    method: byId(`${side}-method`),
  }));

  function showImages() {
    const index = Number(frame.value);
    const name = data.frames[index];
    for (const side of sides) {
      const method = Number(side.method.value);
      side.image.src = data.images[method][index];
      side.image.alt = `${side.title}: ${data.names[method]}, ${name}`;
      side.tag.textContent = data.names[method];
    }
    frame.setAttribute("aria-valuetext", name);
    byId("frame-name").textContent = `Frame ${index + 1} of ${data.frames.length}: ${name}`;
    showCut();
  }

  // The divider's place is relative to the visible part: when zoomed in, it stays there while the image scrolls.
  function visible() {
    const box = view.getBoundingClientRect();
    const image = stage.getBoundingClientRect();
    const left = Math.max(box.left + view.clientLeft, image.left);
    const right = Math.min(box.left + view.clientLeft + view.clientWidth, image.right);
    return { left, width: right - left, image };
  }

  function showCut() {
    const { left, width, image } = visible();
    const x = left + (width * Number(cut.value)) / 100 - image.left;
    line.style.left = `${x}px`;
    sides[0].image.style.clipPath = `inset(0 ${Math.max(0, image.width - x)}px 0 0)`;
    const names = sides.map((side) => data.names[Number(side.method.value)]);
    cut.setAttribute("aria-valuetext", `${names[0]} on the left ${Math.round(Number(cut.value))} percent`);
  }

  function moveTo(clientX) {
    const { left, width } = visible();
    cut.value = (100 * (clientX - left)) / width;
    showCut();
  }

  function showZoom() {
    const middle = ["Left", "Top"].map((edge) => {
      const [size, whole] = edge === "Left" ? ["clientWidth", "scrollWidth"] : ["clientHeight", "scrollHeight"];
      return [`scroll${edge}`, size, whole, (view[`scroll${edge}`] + view[size] / 2) / view[whole]];
    });
    const factor = Number(zoom.value);
    stage.classList.toggle("sharp", factor > 1);
    // CSS fits the image, so that the page's width can change.
    stage.style.width = factor ? `${factor * data.width}px` : "100%";
    stage.style.height = factor ? `${factor * data.height}px` : "100%";
    view.style.overflow = factor ? "auto" : "hidden";
    view.tabIndex = factor ? 0 : -1;
    for (const [edge, size, whole, place] of middle) view[edge] = place * view[whole] - view[size] / 2;
    showCut();
  }

  byId("frame-box").style.aspectRatio = `${data.width} / ${data.height}`;
  for (const part of [byId("frame-box"), cut.parentElement]) {
    part.style.maxWidth = `calc(75vh * ${data.width / data.height})`;
  }
  cut.addEventListener("input", showCut);
  frame.addEventListener("input", showImages);
  zoom.addEventListener("change", showZoom);
  for (const side of sides) side.method.addEventListener("change", showImages);
  view.addEventListener("scroll", showCut);
  new ResizeObserver(showCut).observe(view);
  line.addEventListener("pointerdown", (event) => {
    line.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  line.addEventListener("pointermove", (event) => {
    if (line.hasPointerCapture(event.pointerId)) moveTo(event.clientX);
  });
  view.addEventListener("click", (event) => {
    if (event.target !== view && event.target !== line) moveTo(event.clientX);
  });
  showZoom();
  showImages();
}

for (const [name, { places, values, x, width, score, axis }] of Object.entries(data.curves ?? {})) {
  const chart = byId(name);
  const cursor = byId(`${name}-cursor`);
  let chosen = 0;

  function showPlace(index) {
    chosen = Math.min(Math.max(index, 0), places.length - 1);
    cursor.setAttribute("x1", x[chosen]);
    cursor.setAttribute("x2", x[chosen]);
    cursor.setAttribute("visibility", "visible");
    for (const [number, series] of Object.entries(values)) {
      const value = series[chosen];
      byId(`${name}-value-${number}`).textContent = value === null ? "\u2013" : value.toFixed(2);
    }
    byId(`${name}-at`).textContent = `${score}, ${axis} ${places[chosen]}`;
    chart.setAttribute("aria-valuenow", places[chosen]);
    chart.setAttribute("aria-valuetext", `${axis} ${places[chosen]}`);
  }

  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * width;
    showPlace(x.reduce((best, value, index) => (Math.abs(value - place) < Math.abs(x[best] - place) ? index : best), 0));
  });
  chart.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: chosen - 1, ArrowRight: chosen + 1, Home: 0, End: places.length - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    showPlace(moves[event.key]);
  });
  showPlace(0);
}
