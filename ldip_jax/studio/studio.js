// The page of ldip studio. It keeps nothing itself: it shows the state that the server has of it.
const COLORS = ["#e98a5b", "#5bb8e9", "#8fce6a", "#c58be0", "#e9d35b", "#5bd9c3", "#e96f9b", "#9a9be9"];
const $ = (id) => document.getElementById(id);
const HEADERS = { "x-ldip-studio": "1" };
let key = location.hash.slice(1);
let state = null;
let chosen = null;
let previewed = "";
let timer = 0;
let pressed = "";
let lost = false;

function el(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Requests

async function ask(method, path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { method, ...options, headers: { ...HEADERS, ...options.headers } });
  } catch {
    throw new Error("ldip studio does not answer; look at the terminal in which it runs");
  }
  const values = await answer.json().catch(() => ({}));
  if (answer.status === 404 && path.startsWith("/s/")) location.hash = "";
  if (!answer.ok) throw new Error(values.error || `the server answered ${answer.status}`);
  return values;
}

const own = (path) => `/s/${key}${path}`;

async function attempt(work, polls = false) {
  // What a user's action led to stays to be read until the next one.
  if (!polls) $("trouble").hidden = true;
  try {
    const values = await work();
    if (lost) $("trouble").hidden = true;
    if (values && "clip" in values) show(values);
  } catch (error) {
    $("trouble").textContent = sentence(error.message);
    $("trouble").hidden = false;
    lost = polls;
  }
}

async function begin() {
  const { key: made, choices, limit } = await ask("POST", "/sessions", { body: JSON.stringify({ key }) });
  key = made;
  location.hash = key;
  document.body.dataset.limit = limit;
  for (const [id, entries] of Object.entries(choices)) {
    $(id).replaceChildren(...Object.entries(entries).map(([value, text]) => el("option", { value, textContent: text })));
  }
  return ask("GET", own(""));
}

async function poll() {
  clearTimeout(timer);
  if (key) await attempt(() => ask("GET", own("")), true);
  clearTimeout(timer);
  timer = setTimeout(poll, busy() ? 500 : 10000);
}

// Uploads

function send(kind, file) {
  const bar = el("progress", { max: 1, value: 0 });
  const line = el("li", {}, `${file.name} `, bar);
  $("uploads").append(line);
  return new Promise((done) => {
    const request = new XMLHttpRequest();
    const fail = (text) => {
      const away = el("button", { type: "button", textContent: "OK" });
      away.onclick = () => line.remove();
      line.className = "error";
      line.replaceChildren(sentence(text), away);
      done();
    };
    request.open("PUT", own(`/upload/${kind}`));
    request.setRequestHeader("x-ldip-studio", "1");
    request.setRequestHeader("x-name", encodeURIComponent(file.name.toWellFormed?.() ?? file.name));
    request.upload.onprogress = (event) => event.lengthComputable && (bar.value = event.loaded / event.total);
    request.upload.onload = () => bar.removeAttribute("value");
    request.onerror = () => fail(`${file.name}: could not be sent; the clip and stills of a page may take ${document.body.dataset.limit}`);
    request.onload = () => {
      let values = {};
      try { values = JSON.parse(request.responseText); } catch { /* shown by its status */ }
      if (request.status !== 200) return fail(values.error || `${file.name}: the server answered ${request.status}`);
      line.remove();
      show(values);
      done();
    };
    request.send(file);
  });
}

function zone(id, input, take) {
  const place = $(id);
  const over = (on) => (event) => { event.preventDefault(); place.classList.toggle("over", on); };
  place.addEventListener("dragover", over(true));
  place.addEventListener("dragleave", over(false));
  place.addEventListener("drop", (event) => { over(false)(event); take([...event.dataTransfer.files]); });
  $(input).addEventListener("change", (event) => { take([...event.target.files]); event.target.value = ""; });
}

async function takeClip(files) { if (files.length) await send("clip", files[0]); }
async function takeStills(files) { for (const file of files) await send("still", file); }
// What is dropped beside the zones must not replace the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());

// Words

function sentence(text) { return /[.!?]$/.test(text) ? text : `${text}.`; }
function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
function clock(seconds) {
  const whole = Math.floor(seconds), two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(whole / 60) % 60, hours = Math.floor(whole / 3600);
  return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(whole % 60)}`;
}
function time(row) {
  if (row.seconds === null) return `frame ${row.frame}`;
  return `${String(Math.floor(row.seconds / 60)).padStart(2, "0")}:${(row.seconds % 60).toFixed(1).padStart(4, "0")}`;
}
function bytes(size) { return size < 1e6 ? `${Math.ceil(size / 1e3)} kB` : size < 1e9 ? `${(size / 1e6).toFixed(1)} MB` : `${(size / 1e9).toFixed(2)} GB`; }
const percent = (share) => `${Math.round(100 * share)} %`;
const picture = (name, kind) => own(`/picture/${name}${kind ? `?${state.jobs[kind].number}` : ""}`);
const busy = () => Object.values(state?.jobs ?? {}).some((job) => ["waiting", "running"].includes(job.state));

// What is shown

function show(values) {
  const was = busy();
  state = values;
  showFiles();
  for (const kind of ["matches", "preview", "run"]) showJob(kind);
  showMatches();
  showPreview();
  showResult();
  $("over").hidden = !state.clip && !state.stills.length;
  if (busy() !== was) { clearTimeout(timer); timer = setTimeout(poll, 300); }
}

function card(upload, color, remove) {
  const image = el("img", { src: picture(upload.key), alt: "" });
  const size = [`${upload.width} × ${upload.height}`];
  if (upload.frames) size.push(`${upload.frames} frames`);
  if (upload.seconds) size.push(`${upload.seconds.toFixed(1)} s`);
  const caption = el("figcaption", {}, upload.name, el("small", { textContent: size.join(", ") }));
  for (const note of upload.notes) caption.append(el("small", { textContent: sentence(note) }));
  if (color) caption.style.borderTopColor = color;
  const made = el("figure", { className: "card" }, image, caption);
  if (remove) {
    const button = el("button", { type: "button", textContent: "×", title: `Remove ${upload.name}`, ariaLabel: `Remove ${upload.name}`, disabled: busy() });
    button.onclick = () => attempt(() => ask("DELETE", own(`/still/${upload.key}`)));
    made.append(button);
  }
  return made;
}

let files = "";
function showFiles() {
  const now = JSON.stringify([state.clip, state.stills, busy()]);
  if (now === files) return;
  files = now;
  $("clip").replaceChildren(...(state.clip ? [card(state.clip)] : []));
  $("stills").replaceChildren(...state.stills.map((still, i) => card(still, COLORS[i % 8], true)));
  $("clip-zone").classList.toggle("filled", Boolean(state.clip));
  $("still-zone").classList.toggle("filled", state.stills.length > 0);
  $("clip-zone").querySelector("strong").hidden = Boolean(state.clip);
  $("still-zone").querySelector("strong").hidden = state.stills.length > 0;
  $("clip-zone").querySelector("label").firstChild.data = state.clip ? "Choose another clip" : "Choose a video";
  $("still-label").textContent = state.stills.length ? "Add pictures" : "Choose pictures";
  showSize();
}

function showSize() {
  const scale = Number($("scale").value);
  $("size").textContent = state?.clip ? `${Math.round(state.clip.width * scale)} × ${Math.round(state.clip.height * scale)} pixels` : "";
}

function counted(kind) {
  const job = state.jobs[kind];
  if (kind === "matches" && state.matches.rows.length) {
    const of = Math.max(state.matches.rows[0].of, state.matches.rows.length);
    return [state.matches.rows.length / of, `${state.matches.rows.length} of ${of} moments`];
  }
  if (kind === "run" && job.share !== null) {
    // A continued run counts its own work from 0, but the clip is what the bar is about.
    const kept = job.kept / state.clip.frames, share = kept + (1 - kept) * job.share;
    return [share, `${percent(share)}${job.left === null ? "" : `, about ${duration(job.left)} left`}`];
  }
  return [job.share, job.share ? `${Math.round(3 * job.share)} of 3 frames` : ""];
}

function showJob(kind) {
  const job = state.jobs[kind], place = $(`job-${kind}`), button = $(`start-${kind}`);
  const needs = !state.clip ? "Add a clip first." : kind === "matches" && !state.stills.length ? "Add stills first." : "";
  button.disabled = Boolean(needs) || busy();
  button.parentElement.querySelector(".why").textContent =
    needs || (kind !== "matches" && !state.stills.length && !busy() ? "Without stills, detail comes only from the clip itself." : "");
  if (kind === "run") {
    button.textContent = continues() ? "Continue" : "Sharpen the whole clip";
    button.classList.toggle("main", !state.result);
  }
  if (job && ["waiting", "running"].includes(job.state)) return showWork(place, kind, job);
  const [text, error] = !job ? ["", false]
    : job.state === "failed" ? [sentence(job.error), true]
    : [job.state === "stopped" ? stopped(kind) : "", false];
  if (place.textContent === text) return;
  const held = place.contains(document.activeElement);
  place.replaceChildren(...(text ? [el("p", { className: error ? "error" : "hint", role: error ? "alert" : "status", textContent: text })] : []));
  // Stop has gone; what can be pressed next is where the job was started.
  if (held) button.focus();
}

// Changed in place: what is rebuilt loses clicks and the focus, and its bar begins to move anew.
function showWork(place, kind, job) {
  let row = place.querySelector(".row");
  if (row?.dataset.number !== String(job.number)) {
    const stop = el("button", { type: "button", textContent: "Stop", id: `stop-${kind}` });
    stop.onclick = () => attempt(async () => { const values = await ask("POST", own("/stop")); row.dataset.stops = "yes"; return values; });
    row = el("div", { className: "row" }, el("progress", { max: 1, ariaLabel: "Progress" }), el("span"), stop);
    row.dataset.number = job.number;
    place.replaceChildren(row);
    // The button that was pressed is disabled now, and would keep the focus from going on.
    if (pressed === kind) stop.focus();
    pressed = "";
  }
  const [bar, said] = row.children, [share, text] = counted(kind);
  if (share) bar.value = share; else bar.removeAttribute("value");
  const first = kind !== "matches" && job.seconds > 15 ? " (longer the first time at a size)" : "";
  said.textContent = row.dataset.stops ? "Stopping" : job.state === "waiting" ? "Waits until another page has finished"
    : `${text || `Getting ready${first}`}, ${clock(job.seconds)} so far`;
}

function stopped(kind) {
  if (kind !== "run") return "Stopped.";
  if (!state.jobs.run.resumable) return "Stopped before any frame was finished.";
  return continues() ? "Stopped. The frames that are finished are kept; press Continue for the rest."
    : "Stopped. The frames that are finished are kept for the settings with which the run began.";
}

// A run continues with the settings with which it was begun; with others, it begins again.
function continues() {
  const begun = state.jobs.run?.resumable;
  const memory = $("memory").value.replaceAll(" ", "").toUpperCase();
  return Boolean(begun) && begun.scale === Number($("scale").value) && begun.memory === memory && ["format", "damaged"].every((id) => begun[id] === $(id).value);
}

let drawn = "";
function showMatches() {
  const found = state.matches, rows = found?.rows ?? [];
  const now = JSON.stringify(found);
  if (now === drawn) return;
  drawn = now;
  $("matrix").hidden = !rows.length;
  $("advice").hidden = !found?.advice.length;
  if (!rows.length) { $("shown").hidden = true; chosen = null; return; }
  $("advice").replaceChildren(...found.advice.map((line) => el("li", { textContent: line })));
  $("advice").className = rows.every((row) => Object.values(row.stills).some((still) => still.used)) ? "good" : "";
  const grid = $("matrix");
  grid.style.gridTemplateColumns = `8.5rem repeat(${rows.length}, minmax(72px, 140px))`;
  const cells = [el("span", { className: "name", textContent: "Time" })];
  for (const row of rows) {
    const gap = !Object.values(row.stills).some((still) => still.used);
    cells.push(el("span", { className: gap ? "time gap" : "time", textContent: gap ? `${time(row)}\nno still` : time(row) }));
  }
  const line = (name, color, of) => {
    const head = el("span", { className: "name", textContent: name });
    head.style.borderLeftColor = color;
    cells.push(head, ...rows.map((row) => cell(row, name, color, of(row))));
  };
  state.stills.forEach((still, i) => line(still.name, COLORS[i % 8], (row) => row.stills[still.key]));
  if (state.stills.length > 1) line("All together", "#ccc", (row) => ({ share: row.covered, used: true, note: "", picture: row.picture }));
  const focused = grid.contains(document.activeElement) ? document.activeElement.title : "";
  grid.replaceChildren(...cells);
  if (focused) [...grid.querySelectorAll("button")].find((made) => made.title === focused)?.focus();
}

function cell(row, name, color, found) {
  const about = `${name} at ${time(row)}: matches ${percent(found?.share ?? 0)}${found?.note ? `, ${found.note}` : ""}`;
  const made = el("button", { type: "button", title: about }, el("span", { textContent: found?.used ? percent(found.share) : "–" }));
  if (found?.picture) made.prepend(el("img", { src: picture(found.picture, "matches"), alt: "" }));
  made.classList.toggle("none", !found?.used);
  if (found?.used) made.style.borderColor = color;
  const id = `${row.frame} ${name}`;
  made.ariaPressed = String(chosen === id);
  made.onclick = () => {
    chosen = id;
    for (const other of $("matrix").querySelectorAll("button")) other.ariaPressed = String(other === made);
    $("shown").hidden = false;
    $("shown").querySelector("img").src = picture(found?.picture ?? row.picture, "matches");
    const how = found?.used ? "Coloured where it matches, grey where it does not." : "It is not used here.";
    $("shown").querySelector("figcaption").textContent = `${about}. ${how}`;
  };
  return made;
}

function showPreview() {
  const frames = state.preview, now = JSON.stringify([frames, state.jobs.preview?.number]);
  $("compare").hidden = !frames.length;
  if (now === previewed) return;
  previewed = now;
  $("frames").replaceChildren(...frames.map(({ frame }, i) => {
    const button = el("button", { type: "button", textContent: `Frame ${frame}`, ariaPressed: String(i === 0) });
    button.onclick = () => { for (const other of $("frames").children) other.ariaPressed = String(other === button); compare(frame); };
    return button;
  }));
  if (frames.length) compare(frames[0].frame);
}

function compare(frame) {
  $("before").src = picture(`before-${frame}`, "preview");
  $("after").src = picture(`after-${frame}`, "preview");
}

function lay() {
  const image = $("after");
  $("stage").style.width = $("actual").checked ? `${image.naturalWidth}px` : `min(100%, ${Math.max(image.naturalWidth, 760)}px)`;
  const share = Number($("cut").value);
  // A label stands only where its side is seen.
  for (const [side, part] of [["left", share], ["right", 100 - share]]) $("stage").querySelector(`.${side}`).hidden = part < 15;
  $("before").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  $("line").style.left = `${share}%`;
}

function showResult() {
  const result = state.result;
  $("result").hidden = $("notes").hidden = !result;
  if (!result) return;
  const notes = (state.jobs.run?.notes ?? []).map((note) => el("li", { textContent: sentence(note) }));
  $("notes").replaceChildren(...notes);
  $("download").href = own("/result");
  $("download").download = result.name;
  $("result").querySelector("span").textContent = `${result.name}, ${bytes(result.size)}`;
}

// Controls

zone("clip-zone", "clip-file", takeClip);
zone("still-zone", "still-file", takeStills);
for (const kind of ["matches", "preview", "run"]) {
  $(`start-${kind}`).onclick = () => {
    if (kind === "run" && state.result && !state.result.fetched && !confirm("The finished clip has not been downloaded. Replace it?")) return;
    const settings = Object.fromEntries(["scale", "memory", "format", "damaged"].map((id) => [id, $(id).value]));
    pressed = kind;
    attempt(() => ask("POST", own(`/start/${kind}`), { body: JSON.stringify(settings) }));
  };
}
$("over").onclick = () => {
  if (!confirm("Remove the clip, the stills and what was made from them?")) return;
  attempt(async () => { await ask("DELETE", own("")); key = ""; chosen = null; $("shown").hidden = true; return begin(); });
};
$("scale").onchange = () => { showSize(); showJob("run"); };
$("format").onchange = $("damaged").onchange = $("memory").oninput = () => showJob("run");
$("cut").oninput = $("actual").onchange = $("after").onload = lay;
$("download").onclick = () => setTimeout(poll, 1000);
addEventListener("beforeunload", (event) => { if (busy() || (state?.result && !state.result.fetched)) event.preventDefault(); });
await attempt(begin);
poll();
