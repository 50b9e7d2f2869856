"use strict";
// The query is in the address: what is typed goes there, and what stands there is asked. Text reaches the page through
// textContent alone, so that no file name is ever markup.
const PAGE = 40;
const FILTERS = ["add", "subtract", "glob", "after", "before", "near", "camera"];  // fields behind "Filters", by their ids
const at = (id) => document.getElementById(id);
const state = { pictures: [], hits: [], more: false, running: null, shown: -1, typing: false, index: "", of: "", most: Infinity };
const own = new Map();  // pictures of the user's own, each by its key, for the way back in the history: addresses don't hold them

// A name as one line that can't pass for another: what is no visible character is written as `bt` writes it.
function shown(text) {
  return text.replace(/[\p{C}\p{Z}]/gu, (one) => {
    const code = one.codePointAt(0), escapes = { 9: "\\t", 10: "\\n", 13: "\\r", 32: " " };
    if (escapes[code]) return escapes[code];
    const digits = (long) => code.toString(16).padStart(long, "0");
    if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;  // a byte that is no UTF-8
    return code < 0x100 ? `\\x${digits(2)}` : code < 0x10000 ? `\\u${digits(4)}` : `\\U${digits(8)}`;
  });
}

function parts(text) { return text.split(";").map((part) => part.trim()).filter(Boolean); }

function question() {
  const asked = { k: PAGE, facts: true };
  const q = at("q").value.trim();
  if (q) asked.q = q;
  for (const name of ["add", "subtract", "glob"]) { const list = parts(at(name).value); if (list.length) asked[name] = list; }
  for (const name of ["after", "before", "near"]) { const text = at(name).value.trim(); if (text) asked[name] = text; }
  const cameras = parts(at("camera").value);
  if (cameras.length) asked.cameras = cameras;
  if (indexName()) asked.index = indexName();
  const images = state.pictures.map(({ data, name, path, id, weight }) =>
    data ? { data, name, weight } : path ? { path, weight } : { id, weight });
  if (images.length) asked.images = images;
  if (at("rerank").checked && (q || asked.add)) { asked.rerank = true; asked.candidates = 50; asked.k = 50; }
  return asked;
}

function indexName() { return at("index").value || state.index; }

// A path in an address: bytes that are no UTF-8 would not come through there as they are.
function linked(path) { return /\p{Cs}/u.test(path) ? JSON.stringify(path) : path; }

function writeAddress(step) {
  const query = new URLSearchParams();
  for (const name of ["q", ...FILTERS]) if (at(name).value.trim()) query.set(name, at(name).value.trim());
  if (at("rerank").checked) query.set("rerank", "1");
  const first = at("index").options[0];
  if (!first || indexName() !== first.value) query.set("index", indexName());
  for (const { path, id, data, weight } of state.pictures) if (!data) query.append("like", `${weight}:${path ? linked(path) : id}`);
  const address = query.size ? `?${query}` : location.pathname;
  const pictures = state.pictures.map(({ key, weight, path, id }) => ({ key, weight, path, id }));
  document.title = at("q").value.trim() ? `${shown(at("q").value.trim())} · bt` : "bt";
  const before = history.state ? history.state.pictures : [];
  const same = JSON.stringify(before) === JSON.stringify(pictures);
  if (address === (location.search || location.pathname) && same) return;
  // A step of the history is a question; what is typed in one go is one question.
  const go = step === "typing" ? !state.typing : step === "step";
  state.typing = step === "typing" || (state.typing && step !== "step");
  history[go ? "pushState" : "replaceState"]({ pictures }, "", address);
}

function chooseIndex() {
  state.index = new URLSearchParams(location.search).get("index") || "";
  if (state.index) at("index").value = state.index;  // where there is none of that name, the server says so
  else if (at("index").options.length) at("index").selectedIndex = 0;
}

function pictureOf(text) {  // 5, the number of an image, or its path; with its weight, 2:5
  const [, weight, what] = /^(?:(-?(?:\d+(?:\.\d*)?|\.\d+)):)?([^]*)$/.exec(text);
  const made = { weight: weight === undefined ? 1 : Number(weight) };
  if (/^\d{1,15}$/.test(what)) return { ...made, id: Number(what), name: `image ${what}` };
  let path = what;
  try { if (what.startsWith('"')) path = JSON.parse(what); } catch { /* a path after all */ }
  return { ...made, path, name: base(path) };
}

function readAddress() {
  const query = new URLSearchParams(location.search);
  for (const name of ["q", ...FILTERS]) at(name).value = query.get(name) || "";
  at("rerank").checked = query.get("rerank") === "1";
  chooseIndex();
  at("more").open = FILTERS.some((name) => at(name).value);
  const kept = history.state && history.state.pictures;
  state.pictures = kept && kept.some((one) => own.has(one.key))
    ? kept.filter((one) => !one.key || own.has(one.key)).map((one) => one.key ? { ...own.get(one.key), weight: one.weight }
      : { ...one, name: one.path ? base(one.path) : `image ${one.id}` })
    : query.getAll("like").map(pictureOf);
  state.typing = false;
  showTerms();
}

function say(text, error) { at("status").textContent = text; at("status").classList.toggle("error", Boolean(error)); }

function forget() { show([], 0); state.more = false; }

async function ask(step = "", offset = 0) {
  if (!await listed()) return;
  const asked = question();
  if (offset === 0) writeAddress(step);
  if (state.running) state.running.abort();
  state.running = null;  // whatever of it still comes is no answer any more
  if (!asked.q && !asked.add && !asked.subtract && !asked.images) {
    forget(); say(""); at("hint").hidden = false; return;
  }
  at("hint").hidden = true;
  const running = state.running = new AbortController();
  if (asked.rerank) say("reading…");
  try {
    const answer = await fetch("/api/search", { method: "POST", signal: running.signal,
      headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ...asked, offset }) });
    const found = await answer.json();
    if (running !== state.running) return;
    if (!answer.ok) { if (offset === 0) forget(); state.more = false; say(found.error.message, true); return; }
    if (offset && found.state !== state.of) {
      state.more = false;
      say("The index has changed meanwhile: press Enter in the field above to search anew.", true);
      return;
    }
    state.of = found.state;
    takeUp(found.images);
    state.more = found.more && !asked.rerank;
    show(found.hits, offset);
    const read = found.read ? `, ${found.read} read`
      : at("rerank").checked ? ", not reranked: that takes words to read them with" : "";
    const wanted = [(asked.after || asked.before) && "date", asked.near && "place", asked.cameras && "camera"].filter(Boolean);
    const unknown = found.unknown ? `, ${found.unknown.toLocaleString("en")} without a ${wanted.join(" or ")}` : "";
    say(`${state.hits.length}${state.more ? "+" : ""} of ${found.searched.toLocaleString("en")} images${unknown}${read}, ${Math.round(found.seconds * 1000)} ms`
      + (found.skipped.length ? `; skipped ${found.skipped.join("; ")}` : ""));
  } catch (error) {
    if (running !== state.running) return;
    if (offset === 0) forget();
    state.more = false;  // or a server that is gone would be asked without end
    say("The server does not answer.", true);
  } finally {
    if (state.running === running) { state.running = null; moreIfSeen(); }
  }
}

function element(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

// The state says which images the numbers are of: a picture kept by the browser is never shown for another.
function source(kind, id) { return `/${kind}/${encodeURIComponent(indexName())}/${id}?state=${state.of}`; }
function base(path) { return shown(path.slice(path.lastIndexOf("/") + 1)); }
function caption(hit) { return hit.captions && hit.captions.length ? shown(hit.captions[0].replace(/\s+/g, " ")) : ""; }

function card(hit, place) {
  const item = element("li");
  const button = element("button");
  button.type = "button";
  const image = element("img");
  image.loading = "lazy";
  image.alt = caption(hit) || base(hit.path);
  image.addEventListener("error", () => image.replaceWith(element("span", "missing", "no picture")));
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
  if (caption(hit)) button.append(element("span", "caption", caption(hit)));
  button.append(element("span", "name", base(hit.path)));
  button.title = shown(hit.path);
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
  state.typing = false;
  if (state.more && !state.running && place > state.hits.length - 6) ask("", state.hits.length);
  const hit = state.hits[place];
  picture(hit);
  at("place").textContent = shown(hit.path);
  at("texts").textContent = (hit.captions || []).map((text) => shown(text.replace(/\s+/g, " "))).join(" · ");
  at("taken").textContent = takenWhere(hit);
  at("copy").textContent = "Copy path";
  at("heat").hidden = !at("q").value.trim();
  if (!at("viewer").open) at("viewer").showModal();
}

function takenWhere(hit) {
  const place = hit.latitude === undefined ? "" : `${hit.latitude.toFixed(4)}, ${hit.longitude.toFixed(4)}`;
  return [(hit.taken || "").replace("T", " "), shown(hit.camera || ""), place].filter(Boolean).join(" · ");
}

function picture(hit) {
  at("large").classList.remove("map");
  at("heat").setAttribute("aria-pressed", "false");
  at("note").textContent = "";
  at("large").src = source("image", hit.id);
  at("large").alt = caption(hit) || base(hit.path);
}

function heat() {
  const hit = state.hits[state.shown];
  const words = at("q").value.trim();
  if (!hit || !words) return;
  if (at("heat").getAttribute("aria-pressed") === "true") { picture(hit); return; }
  at("heat").setAttribute("aria-pressed", "true");
  at("large").classList.add("map");
  at("large").alt = `Where ${base(hit.path)} matched: ${words}`;
  at("note").textContent = "drawing…";
  at("large").src = `${source("heat", hit.id)}&q=${encodeURIComponent(words)}`;
}

async function sayWhatIsWrong() {
  const asked = at("large").getAttribute("src");
  if (!asked) return;
  let said = "The picture can't be shown.";
  try {
    const answer = await fetch(asked);
    if (!answer.ok) said = (await answer.json()).error.message;
  } catch { said = "The server does not answer."; }
  if (at("large").getAttribute("src") === asked) at("note").textContent = said;
}

function like(hit) {
  state.pictures.push({ path: hit.path, id: hit.id, weight: 1, name: base(hit.path) });
  showTerms();
  at("viewer").close();
  ask("step");
}

function takeUp(images) {  // which images of the index the terms are: their numbers are good for this state alone
  let changed = false;
  (images || []).forEach((image, place) => {
    const picture = state.pictures[place];
    if (!image || !picture || picture.data || (picture.path === image.path && picture.seen === state.of)) return;
    Object.assign(picture, image, { name: base(image.path), seen: state.of });
    changed = true;
  });
  if (changed) { showTerms(); writeAddress(); }
}

function showTerms() {
  at("terms").replaceChildren(...state.pictures.map((picture, place) => {
    const item = element("li");
    const image = element("img");
    image.alt = picture.name;
    if (picture.data) image.src = picture.data;
    else if (picture.seen && picture.seen === state.of) image.src = source("thumb", picture.id);
    const weight = element("input");
    weight.type = "number"; weight.step = "any"; weight.value = picture.weight;
    weight.setAttribute("aria-label", `Weight of ${picture.name}`);
    weight.addEventListener("change", () => {
      const number = Number(weight.value);
      if (Number.isFinite(number) && number !== 0) { picture.weight = number; ask("step"); return; }
      weight.value = picture.weight;
      say("A weight is a number other than 0; × leaves the picture out.", true);
    });
    const away = element("button", "", "×");
    away.type = "button";
    away.setAttribute("aria-label", `Remove ${picture.name}`);
    away.addEventListener("click", () => {
      state.pictures.splice(place, 1);
      showTerms();
      (at("terms").querySelectorAll("button")[place] || at("q")).focus();
      ask("step");
    });
    item.append(image, weight, away);
    return item;
  }));
}

function fits(file) {  // said here, as the server would take all of it before it could refuse
  const sent = state.pictures.reduce((sum, { data }) => sum + (data ? data.length : 0), file.size * 4 / 3);
  if (file.type && !file.type.startsWith("image/")) return `${shown(file.name)}: no picture.`;
  if (sent > state.most - 100000) return `${shown(file.name)}: too large; ${Math.floor(state.most / 1400000)} MB of pictures are taken.`;
  return "";
}

async function take(files) {
  const wrong = [];
  for (const file of files) {
    const no = fits(file);
    if (no) { wrong.push(no); continue; }
    const data = await new Promise((done) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result);
      reader.onerror = () => done("");
      reader.readAsDataURL(file);
    });
    if (!data) { wrong.push(`${shown(file.name)}: can't be read; a folder is none of the pictures in it.`); continue; }
    const picture = { data, weight: 1, name: shown(file.name), key: `${Date.now()} ${own.size}` };
    own.set(picture.key, picture);
    state.pictures.push({ ...picture });
  }
  showTerms();
  await (files.length > wrong.length ? ask("step") : listed());  // what the page says at its start comes first
  if (wrong.length) say(wrong.join(" "), true);
}

let waiting;
function soon() { clearTimeout(waiting); waiting = setTimeout(() => ask("typing"), at("rerank").checked ? 400 : 120); }
function moreIfSeen() {
  if (state.more && !state.running && at("end").getBoundingClientRect().top < innerHeight + 600) ask("", state.hits.length);
}

for (const id of ["q", "add", "subtract", "glob", "camera"]) at(id).addEventListener("input", soon);
for (const id of ["after", "before", "near", "rerank"]) at(id).addEventListener("change", () => ask("step"));
at("index").addEventListener("change", () => { state.index = ""; ask("step"); });
for (const id of ["q", "add", "subtract", "glob", "camera"]) at(id).addEventListener("change", () => { state.typing = false; });
at("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  clearTimeout(waiting);
  await ask("typing");
  state.typing = false;
});
at("file").addEventListener("change", () => { take([...at("file").files]); at("file").value = ""; });
at("like").addEventListener("click", () => like(state.hits[state.shown]));
at("large").addEventListener("load", () => { at("note").textContent = ""; });
at("large").addEventListener("error", sayWhatIsWrong);
at("heat").addEventListener("click", heat);
at("close").addEventListener("click", () => at("viewer").close());
at("viewer").addEventListener("close", () => {
  const card = at("results").querySelectorAll("button")[state.shown];
  if (card) card.focus();
});
at("previous").addEventListener("click", () => view(state.shown - 1));
at("next").addEventListener("click", () => view(state.shown + 1));
at("copy").addEventListener("click", async () => {
  if (/\p{Cs}/u.test(state.hits[state.shown].path)) { at("copy").textContent = "No UTF-8: can't be copied"; return; }
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
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.toggle("dropping", event.dataTransfer.types.includes("Files"));
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (at("viewer").open) at("viewer").close();
  if (event.dataTransfer.files.length) take([...event.dataTransfer.files]);
});
addEventListener("popstate", () => { readAddress(); ask(); });
new IntersectionObserver(moreIfSeen, { rootMargin: "600px" }).observe(at("end"));
// All questions wait until it is known which indexes there are; where that fails, the next one asks again.
let listing = null;
async function list() {
  const answer = await fetch("/api/indexes");
  const { indexes, body_bytes, error } = await answer.json();
  if (!answer.ok) throw new Error(error.message);
  state.most = body_bytes;
  at("index").replaceChildren(...indexes.map((index) => {
    const option = element("option", "", `${shown(index.name)} (${index.images.toLocaleString("en")})`);
    option.value = index.name;
    return option;
  }));
  chooseIndex();
  return true;
}

function listed() {
  listing ??= list().catch((error) => {
    listing = null;
    say(error instanceof TypeError ? "The server does not answer." : error.message, true);
    return false;
  });
  return listing;
}

readAddress();  // before anything is typed or dropped, which an answer that comes late would take away again
ask();
