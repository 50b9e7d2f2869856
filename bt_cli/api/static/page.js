"use strict";
// The query is in the address: what is typed goes there, and what stands there is asked. Text reaches the page through
// textContent alone, so that no file name is ever markup.
const PAGE = 40;
const FILTERS = ["add", "subtract", "glob", "after", "before", "near", "camera"];  // fields behind "Filters", by their ids
const at = (id) => document.getElementById(id);
const state = { pictures: [], hits: [], more: false, asked: 0, running: null, shown: -1 };

function parts(text) { return text.split(";").map((part) => part.trim()).filter(Boolean); }

function question() {
  const asked = { k: PAGE, facts: true };
  const q = at("q").value.trim();
  if (q) asked.q = q;
  for (const name of ["add", "subtract", "glob"]) { const list = parts(at(name).value); if (list.length) asked[name] = list; }
  for (const name of ["after", "before", "near"]) { const text = at(name).value.trim(); if (text) asked[name] = text; }
  const cameras = parts(at("camera").value);
  if (cameras.length) asked.cameras = cameras;
  if (at("index").value) asked.index = at("index").value;
  const images = state.pictures.map((picture) => picture.id === undefined
    ? { data: picture.data, name: picture.name, weight: picture.weight } : { id: picture.id, weight: picture.weight });
  if (images.length) asked.images = images;
  if (at("rerank").checked && (q || asked.add)) { asked.rerank = true; asked.candidates = 50; asked.k = 50; }
  return asked;
}

function writeAddress() {
  const query = new URLSearchParams();
  for (const name of ["q", ...FILTERS]) if (at(name).value.trim()) query.set(name, at(name).value.trim());
  if (at("rerank").checked) query.set("rerank", "1");
  if (at("index").selectedIndex > 0) query.set("index", at("index").value);
  for (const picture of state.pictures) if (picture.id !== undefined) query.append("like", `${picture.weight}:${picture.id}`);
  const address = query.size ? `?${query}` : location.pathname;
  if (address !== (location.search || location.pathname)) history.replaceState(null, "", address);
}

function chooseIndex() {
  const name = new URLSearchParams(location.search).get("index");
  if (name) at("index").value = name;
  if (at("index").selectedIndex < 0) at("index").selectedIndex = 0;
}

function readAddress() {
  const query = new URLSearchParams(location.search);
  for (const name of ["q", ...FILTERS]) at(name).value = query.get(name) || "";
  at("rerank").checked = query.get("rerank") === "1";
  chooseIndex();
  at("more").open = FILTERS.some((name) => at(name).value);
  state.pictures = query.getAll("like").map((text) => {
    const [, weight, id] = /^(?:([-\d.]+):)?(\d{1,15})$/.exec(text) || [];  // 5, or with its weight 2:5
    return { id: Number(id), weight: Number(weight) || 1, name: `image ${id}` };
  }).filter((picture) => Number.isInteger(picture.id));
  showTerms();
}

function say(text, error) { at("status").textContent = text; at("status").classList.toggle("error", Boolean(error)); }

async function ask(offset = 0) {
  if (!await listed) return;
  const asked = question();
  writeAddress();
  if (state.running) state.running.abort();
  if (!asked.q && !asked.add && !asked.subtract && !asked.images) {
    show([], 0); say(""); state.more = false; at("hint").hidden = false; return;
  }
  at("hint").hidden = true;
  const running = state.running = new AbortController();
  if (asked.rerank) say("reading…");
  try {
    const answer = await fetch("/api/search", { method: "POST", signal: running.signal,
      headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ...asked, offset }) });
    const found = await answer.json();
    if (running !== state.running) return;
    if (!answer.ok) { say(found.error.message, true); state.more = false; return; }
    state.more = found.more && !asked.rerank;
    show(found.hits, offset);
    const read = found.read ? `, ${found.read} read` : "";
    const wanted = [(asked.after || asked.before) && "date", asked.near && "place", asked.cameras && "camera"].filter(Boolean);
    const unknown = found.unknown ? `, ${found.unknown.toLocaleString("en")} without a ${wanted.join(" or ")}` : "";
    say(`${state.hits.length}${state.more ? "+" : ""} of ${found.searched.toLocaleString("en")} images${unknown}${read}, ${Math.round(found.seconds * 1000)} ms`
      + (found.skipped.length ? `; skipped ${found.skipped.join("; ")}` : ""));
  } catch (error) {
    if (error.name !== "AbortError") say("The server does not answer.", true);
  } finally {
    if (state.running === running) state.running = null;
    if (state.more) moreIfSeen();
  }
}

function element(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

function source(kind, id) { return `/${kind}/${encodeURIComponent(at("index").value)}/${id}`; }
function base(path) { return path.slice(path.lastIndexOf("/") + 1); }

function card(hit, place) {
  const item = element("li");
  const button = element("button");
  button.type = "button";
  const image = element("img");
  image.loading = "lazy";
  image.alt = hit.captions && hit.captions.length ? hit.captions[0] : base(hit.path);
  image.src = source("thumb", hit.id);
  const facts = element("span", "facts");
  facts.append(element("span", "rank", `${hit.rank}`));
  if (hit.itm_prob !== null) {
    facts.append(element("span", "", `${(100 * hit.itm_prob).toFixed(1)} %`));
    const moved = hit.before - hit.rank;
    facts.append(element("span", moved > 0 ? "up" : moved < 0 ? "down" : "rank",
      moved > 0 ? `▲ ${moved} from ${hit.before}` : moved < 0 ? `▼ ${-moved} from ${hit.before}` : "="));
  }
  if (hit.itc !== null && hit.itm_prob === null) facts.append(element("span", "rank", hit.itc.toFixed(4)));
  button.append(image, facts);
  if (hit.captions && hit.captions.length) button.append(element("span", "caption", hit.captions[0]));
  button.append(element("span", "name", base(hit.path)));
  button.title = hit.path;
  button.addEventListener("click", () => view(place));
  item.append(button);
  return item;
}

function show(hits, offset) {
  if (offset === 0) { state.hits = []; at("results").replaceChildren(); }
  for (const hit of hits) { at("results").append(card(hit, state.hits.length)); state.hits.push(hit); }
}

function view(place) {
  if (place < 0 || place >= state.hits.length) return;
  state.shown = place;
  const hit = state.hits[place];
  picture(hit);
  at("place").textContent = hit.path;
  at("texts").textContent = (hit.captions || []).join(" · ");
  at("taken").textContent = takenWhere(hit);
  at("copy").textContent = "Copy path";
  at("heat").hidden = !at("q").value.trim();
  if (!at("viewer").open) at("viewer").showModal();
}

function takenWhere(hit) {
  const place = hit.latitude === undefined ? "" : `${hit.latitude.toFixed(4)}, ${hit.longitude.toFixed(4)}`;
  return [(hit.taken || "").replace("T", " "), hit.camera, place].filter(Boolean).join(" · ");
}

function picture(hit) {
  at("large").classList.remove("map");
  at("heat").setAttribute("aria-pressed", "false");
  at("large").src = source("image", hit.id);
  at("large").alt = hit.captions && hit.captions.length ? hit.captions[0] : base(hit.path);
}

function heat() {
  const hit = state.hits[state.shown];
  const words = at("q").value.trim();
  if (!hit || !words) return;
  if (at("heat").getAttribute("aria-pressed") === "true") { picture(hit); return; }
  at("heat").setAttribute("aria-pressed", "true");
  at("large").classList.add("map");
  at("large").alt = `Where ${base(hit.path)} matched: ${words}`;
  at("large").src = `${source("heat", hit.id)}?q=${encodeURIComponent(words)}`;
}

function like(id) {
  state.pictures.push({ id, weight: 1, name: `image ${id}` });
  showTerms();
  at("viewer").close();
  ask();
}

function showTerms() {
  at("terms").replaceChildren(...state.pictures.map((picture, place) => {
    const item = element("li");
    const image = element("img");
    image.alt = picture.name;
    if (picture.id === undefined) image.src = picture.data;
    else if (at("index").value) image.src = source("thumb", picture.id);
    const weight = element("input");
    weight.type = "number"; weight.step = "0.5"; weight.value = picture.weight;
    weight.setAttribute("aria-label", `Weight of ${picture.name}`);
    weight.addEventListener("change", () => { picture.weight = Number(weight.value) || 1; ask(); });
    const away = element("button", "", "×");
    away.type = "button";
    away.setAttribute("aria-label", `Remove ${picture.name}`);
    away.addEventListener("click", () => { state.pictures.splice(place, 1); showTerms(); ask(); });
    item.append(image, weight, away);
    return item;
  }));
}

async function take(files) {
  for (const file of files) {
    const data = await new Promise((done, failed) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result);
      reader.onerror = failed;
      reader.readAsDataURL(file);
    });
    state.pictures.push({ data, weight: 1, name: file.name });
  }
  showTerms();
  ask();
}

let waiting;
function soon() { clearTimeout(waiting); waiting = setTimeout(() => ask(), at("rerank").checked ? 400 : 120); }
function moreIfSeen() {
  if (state.more && !state.running && at("end").getBoundingClientRect().top < innerHeight + 600) ask(state.hits.length);
}

for (const id of ["q", "add", "subtract", "glob", "camera"]) at(id).addEventListener("input", soon);
for (const id of ["after", "before", "near", "rerank", "index"]) at(id).addEventListener("change", () => ask());
at("ask").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(waiting); ask(); });
at("file").addEventListener("change", () => { take([...at("file").files]); at("file").value = ""; });
at("like").addEventListener("click", () => like(state.hits[state.shown].id));
at("heat").addEventListener("click", heat);
at("close").addEventListener("click", () => at("viewer").close());
at("viewer").addEventListener("close", () => {
  const card = at("results").querySelectorAll("button")[state.shown];
  if (card) card.focus();
});
at("previous").addEventListener("click", () => view(state.shown - 1));
at("next").addEventListener("click", () => view(state.shown + 1));
at("copy").addEventListener("click", async () => {
  try { await navigator.clipboard.writeText(state.hits[state.shown].path); at("copy").textContent = "Copied"; }
  catch { getSelection().selectAllChildren(at("place")); at("copy").textContent = "Marked: press Ctrl+C"; }
});
document.addEventListener("keydown", (event) => {
  if (at("viewer").open) {
    if (event.key === "ArrowLeft") view(state.shown - 1);
    if (event.key === "ArrowRight") view(state.shown + 1);
  } else if (event.key === "/" && !/^(INPUT|SELECT)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    at("q").focus();
  } else if (/^Arrow/.test(event.key) && document.activeElement.closest("#results")) {
    const cards = [...at("results").querySelectorAll("button")];
    const row = cards.filter((one) => one.offsetTop === cards[0].offsetTop).length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row }[event.key];
    const next = cards[cards.indexOf(document.activeElement) + step];
    if (next) { event.preventDefault(); next.focus(); }
  }
});
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  take([...event.dataTransfer.files]);
});
addEventListener("popstate", () => { readAddress(); ask(); });
new IntersectionObserver(moreIfSeen, { rootMargin: "600px" }).observe(at("end"));
readAddress();  // before anything is typed or dropped, which an answer that comes late would take away again
const listed = (async () => {  // what all questions wait for: whether it is known which indexes there are
  try {
    const { indexes } = await (await fetch("/api/indexes")).json();
    at("index").replaceChildren(...indexes.map((index) => {
      const option = element("option", "", `${index.name} (${index.images.toLocaleString("en")})`);
      option.value = index.name;
      return option;
    }));
    chooseIndex();
    showTerms();
    return true;
  } catch {
    say("The server does not answer.", true);
    return false;
  }
})();
ask();
