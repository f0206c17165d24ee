// The review's page: what is chosen, what is shown of it, keys, and edits in order.
//
// The server holds the truth: every edit is posted with the revision it was made on, and the answer is the new state.

import { $, badge, clock, el, frameAt, nearestFrame, picture, plural, songColour, standIn, sync } from "./dom.js";
import { Overlay } from "./overlay.js";
import { Pairs } from "./pairs.js";
import { Timeline } from "./timeline.js";

const video = $("video");
const RATES = [0.25, 0.5, 1, 1.5, 2, 3];
const VALUES = [["start", "Start"], ["end", "End"], ["song", "Song"], ["dancers", "Dancers"]];
const REVIEWS = { accepted: "accepted", mended: "mended" };
const POLL_MS = 2500;

let state = null;
let compilation = null; // id of the one on the timeline
let chosen = null; // key of the chosen clip or stretch
let media = null; // {facts, frames, outline} of the compilation; null while it loads or where it is absent
let stillAt = null; // s, where the browser cannot play the video and stills stand in
let stopAt = null; // s, where playing stops by itself
let filters = { unreviewed: false, low: false, rejected: false };
let options = { skeleton: true, autoplay: false, zoom: 40 };
let chain = Promise.resolve(); // edits, one after the other
let round = 0; // edits that were asked for in an earlier round are dropped: the state they were meant for is gone
let lost = false; // the server does not answer
let mediaOf = new Map();
let beatsFor = null;
let posesFor = null;

const overlay = new Overlay($("skeleton"), video);
const timeline = new Timeline(
  { overview: $("overview"), film: $("film"), wave: $("wave"), ruler: $("ruler") },
  video,
  document.querySelector("meta[name=csp-nonce]").content,
  {
    seek: (t, follow) => {
      seek(t);
      const under = items().find((item) => item.start <= t && t < item.end);
      if (follow && under && under.key !== chosen) choose(under, { seek: false });
    },
    choose: (item) => choose(item),
    moveEdge: (item, edge, t) => edit({ action: "move", clip: item.id, edge, frame: nearestFrame(media.frames, t) }),
  },
);
const pairs = new Pairs($("pairs"), { state: () => state, edit, media: loadMedia, close: () => $("stage").focus() });

// ------------------------------------------------------------------------------------------- talking to the server

async function post(path, body) {
  return fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

// Make an edit when those before it are done. `quiet`: the caller deals with a refusal.
function edit(body, quiet = false) {
  const mine = round;
  const made = chain.then(async () => {
    if (mine !== round || !state || state.problems.length) return null;
    let response;
    try {
      response = await post("/api/edit", { ...body, revision: state.revision });
    } catch {
      round += 1;
      gone("The review's server does not answer: the last edit was not saved. What was saved before is safe; start the review again.");
      return null;
    }
    const reply = await response.json().catch(() => ({ error: "The server's answer cannot be read." }));
    if (response.ok) {
      adopt(reply.state);
      tell("");
      say(`Saved: ${reply.what}.`);
    } else if (reply.state) {
      round += 1;
      adopt(reply.state);
      tell(reply.error);
    } else if (!(quiet && reply.clips)) {
      round += 1;
      say("");
      tell(reply.error);
      timeline.place(); // an edge that was dragged goes back
    }
    return reply;
  });
  chain = made.catch((error) => {
    round += 1;
    tell(`The page stumbled (${error.message}): reload it. What was saved is safe.`);
  });
  return made;
}

async function refresh(sentence) {
  const response = await fetch("/api/state");
  adopt(await response.json());
  if (sentence) tell(sentence);
}

// Whether the files were changed elsewhere is asked between edits, never beside one: an answer that was made before an edit
// and read after it would put the page back, and the next edit would be refused.
async function poll() {
  chain = chain
    .then(async () => {
      const { revision } = await (await fetch("/api/revision")).json();
      if (lost) {
        lost = false;
        tell("");
      }
      if (state && revision !== state.revision) {
        round += 1;
        const before = state.problems.length;
        await refresh();
        if (!state.problems.length) tell(before ? "The files are in order again." : "The files were changed elsewhere: this is how they are now.");
      }
    })
    .catch(() => {
      if (!lost) gone("The review's server does not answer. What was saved is safe; start the review again.");
    });
  await chain;
  setTimeout(poll, POLL_MS);
}

function gone(sentence) {
  lost = true;
  tell(sentence);
}

let placeTimer = null;
function keepPlace() {
  clearTimeout(placeTimer);
  placeTimer = setTimeout(() => {
    if (lost || compilation === null) return;
    const item = current();
    const place = { compilation, time: Math.round(now() * 1000) / 1000, filters, zoom: options.zoom };
    Object.assign(place, { skeleton: options.skeleton, autoplay: options.autoplay });
    if (item && item.kind === "clip") place.clip = item.id;
    else if (item) place.rejected = item.key;
    post("/api/place", place).catch(() => {});
  }, 400);
}

function say(sentence) {
  $("status").textContent = $("status").title = sentence;
}

function tell(sentence) {
  $("banner").hidden = !sentence;
  $("banner").firstElementChild.textContent = sentence;
}

// ------------------------------------------------------------------------------------------- what there is

const clipItem = (clip) => ({ ...clip, kind: "clip", key: `clip-${clip.id}` });
const rejectedItem = (row) => ({
  ...row,
  kind: "rejected",
  what: row.kind,
  label: row.kind.replace("_", " "),
  key: `rejected-${row.compilation}-${row.start}-${row.end}`,
});

// Clips and rejected stretches of a compilation, in order of time.
function items(of = compilation) {
  const clips = state.clips.filter((clip) => clip.compilation === of && clip.start !== null).map(clipItem);
  const rejected = state.rejected.filter((row) => row.compilation === of).map(rejectedItem);
  return [...clips, ...rejected].sort((a, b) => a.start - b.start);
}

const passes = (clip) => (!filters.unreviewed || clip.review === null) && (!filters.low || clip.confidence < state.low);

// What the list shows; the chosen one stays until another is chosen.
function listed(of = compilation) {
  const untimed = state.clips.filter((clip) => clip.compilation === of && clip.start === null).map(clipItem);
  return [...items(of), ...untimed].filter((item) => (item.kind === "clip" ? passes(item) : filters.rejected) || item.key === chosen);
}

function current() {
  if (!state || state.problems.length) return null;
  return [...items(), ...state.clips.filter((clip) => clip.compilation === compilation).map(clipItem)].find((item) => item.key === chosen) || null;
}

function clipNow() {
  const item = current();
  return item && item.kind === "clip" ? item : null;
}

// ------------------------------------------------------------------------------------------- showing

function adopt(next) {
  const first = state === null || state.problems.length > 0;
  state = next;
  document.body.classList.toggle("broken", state.problems.length > 0);
  $("folder").textContent = state.folder;
  document.title = `Review of ${state.folder}`;
  showTrouble();
  if (state.problems.length) {
    video.pause();
    tell("");
    return;
  }
  if (first) resume();
  else {
    if (!state.compilations.some((one) => one.id === compilation)) compilation = null;
    if (compilation === null && state.compilations.length) openCompilation(state.compilations[0].id);
    if (chosen !== null && !current()) {
      // What was chosen is gone: the clip that is there now, or the next one.
      const t = now();
      const all = items();
      const item = all.find((one) => one.kind === "clip" && one.start <= t && t < one.end) || all.find((one) => one.kind === "clip" && one.start >= t) || all[0];
      chosen = item ? item.key : null;
    }
  }
  render();
  if (pairs.open) pairs.render();
}

function resume() {
  const place = state.place || {};
  filters = { ...filters, ...place.filters };
  for (const name of ["skeleton", "autoplay", "zoom"]) if (place[name] !== undefined) options[name] = place[name];
  timeline.zoom = options.zoom;
  overlay.on = options.skeleton;
  if (compilation !== null && state.compilations.some((one) => one.id === compilation)) return;
  const start = state.compilations.find((one) => one.id === place.compilation) || state.compilations[0];
  if (!start) return;
  const clip = state.clips.find((one) => one.id === place.clip && one.compilation === start.id);
  const begin = clip || state.clips.find((one) => one.compilation === start.id && one.review === null) || state.clips.find((one) => one.compilation === start.id);
  openCompilation(start.id, clip ? `clip-${clip.id}` : place.rejected || (begin ? `clip-${begin.id}` : null), clip ? place.time : undefined);
}

function showTrouble() {
  const root = $("trouble");
  root.hidden = state.problems.length === 0;
  if (root.hidden) return;
  root.replaceChildren(
    el("header", {}, el("h2", {}, `${plural(state.problems.length, "mistake")} in the files`)),
    el("p", {}, "The folder was edited by hand and can't be shown until this is mended. Nothing was changed here, and nothing is lost; the page goes on by itself once the files are in order."),
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, ["File", "Line", "Column", "What is wrong"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, state.problems.map((p) => el("tr", {}, el("td", {}, p.file), el("td", {}, p.line === null ? "" : String(p.line)), el("td", {}, p.column || ""), el("td", {}, p.message)))),
    ),
    el("button", { type: "button", className: "main", onclick: () => refresh() }, "Look again"),
  );
}

function render() {
  const { progress } = state;
  const share = progress.clips ? progress.reviewed / progress.clips : 0;
  $("progress").setAttribute("aria-valuemax", progress.clips);
  $("progress").setAttribute("aria-valuenow", progress.reviewed);
  $("progress").firstElementChild.style.width = `${share * 100}%`;
  const minutes = progress.seconds_left / 60;
  const left = progress.reviewed === progress.clips ? "all done" : minutes < 1 ? "less than a minute left to look at" : `${plural(Math.round(minutes), "minute")} left to look at`;
  $("count").textContent = `${progress.reviewed} of ${progress.clips} reviewed, ${left}`;
  for (const way of ["undo", "redo"]) {
    $(way).disabled = !state[way];
    $(way).title = state[way] || `There is nothing to ${way}`;
  }
  $("pairs-left").textContent = pairs.summary[0] || "";
  $("open-pairs").title = pairs.summary[1];
  renderCompilations();
  renderList();
  renderInspector();
  timeline.show(compilation === null ? [] : items(), chosen);
  lookAfterClip();
}

function renderCompilations() {
  sync(
    $("compilations"),
    state.compilations,
    (one) => one.id,
    (one) => el("li", {}, el("button", { type: "button", onclick: () => openCompilation(one.id) }, el("span", { className: "title" }), el("span", { className: "of" }), el("i", { className: "bar" }, el("i")))),
    (node, one) => {
      const clips = state.clips.filter((clip) => clip.compilation === one.id);
      const done = clips.filter((clip) => clip.review !== null).length;
      const button = node.firstChild;
      button.setAttribute("aria-current", String(one.id === compilation));
      button.children[0].textContent = one.title;
      button.title = one.title;
      button.children[1].textContent = one.present ? `${done} / ${clips.length}` : "no video";
      button.children[2].firstChild.style.width = `${clips.length ? (100 * done) / clips.length : 0}%`;
    },
  );
}

function renderList() {
  const of = state.clips.filter((clip) => clip.compilation === compilation);
  const counts = {
    "only-unreviewed": of.filter((clip) => clip.review === null).length,
    "only-low": of.filter((clip) => clip.confidence < state.low).length,
    "with-rejected": state.rejected.filter((row) => row.compilation === compilation).length,
  };
  for (const [id, n] of Object.entries(counts)) $(id).querySelector(".number").textContent = n;
  $("only-unreviewed").setAttribute("aria-pressed", filters.unreviewed);
  $("only-low").setAttribute("aria-pressed", filters.low);
  $("with-rejected").setAttribute("aria-pressed", filters.rejected);
  const shown = compilation === null ? [] : listed();
  const root = $("clips");
  root.querySelector(".empty")?.remove();
  sync(root, shown, (item) => item.key, makeItem, updateItem);
  if (!shown.length) root.append(el("li", { className: "empty" }, emptyWords(of)));
}

function emptyWords(of) {
  if (compilation === null) return "No compilation was proposed.";
  if (!of.length) return "No clip was found in this compilation. Rejected stretches may hold one: show them with Rejected.";
  if (filters.unreviewed && of.every((clip) => clip.review !== null)) return "All clips of this compilation are reviewed.";
  return "No clip is like this.";
}

function makeItem(item) {
  return el(
    "li",
    {},
    el("button", { type: "button", onclick: () => choose(byKey(item.key)) },
      el("img", { alt: "", className: "thumb" }),
      el("span", { className: "name" }),
      el("span", { className: "when" }),
      el("span", { className: "what" }),
      el("span", { className: "sure" })),
  );
}

const byKey = (key) => listed().find((item) => item.key === key) || items().find((item) => item.key === key);

function updateItem(node, item) {
  const button = node.firstChild;
  const [image, name, when, what, sure] = button.children;
  button.setAttribute("aria-current", String(item.key === chosen));
  button.className = item.kind;
  when.textContent = item.start === null ? "no times" : `${clock(item.start, 1)}–${clock(item.end, 1)}`;
  if (item.kind === "clip") {
    button.style.setProperty("--song", songColour(item.song));
    name.textContent = `Clip ${item.id}`;
    what.replaceChildren(el("i", { className: "dot" }), `song ${item.song}${item.dancers === null ? "" : `, ${plural(item.dancers, "dancer")}`}`);
    const mark = { accepted: "✓", mended: "✎" }[item.review];
    sure.replaceChildren(...(mark ? [el("span", { className: "mark", title: item.review, role: "img", "aria-label": item.review }, mark)] : []), badge(item.confidence));
  } else {
    button.style.setProperty("--song", "#5a616d");
    name.textContent = "Rejected";
    what.textContent = item.label;
    sure.replaceChildren(badge(item.confidence));
  }
  if (media && item.start !== null) queueMicrotask(() => picture(image, stillOf(item)));
  if (item.key === chosen) queueMicrotask(() => showInList(node));
}

// Scrolls the list and not the page, which in a narrow window shows the video instead.
function showInList(node) {
  const list = $("clips").getBoundingClientRect();
  const box = node.getBoundingClientRect();
  if (box.top < list.top) $("clips").scrollTop -= list.top - box.top;
  else if (box.bottom > list.bottom) $("clips").scrollTop += box.bottom - list.bottom;
}

const stillUrl = (index) => `/media/${compilation}/small/${index}.jpg`;
const stillOf = (item) => stillUrl(standIn(media.frames, (item.start + item.end) / 2, item.start, item.end));

function valueText(item, name) {
  if (name === "start" || name === "end") return clock(item[name], 3);
  if (name === "song") {
    const song = state.songs.find((one) => one.id === item.song) || {};
    return `${item.song}${song.title ? ` ${song.title}` : ""}`;
  }
  return item.dancers === null ? "not counted" : String(item.dancers);
}

function renderInspector() {
  const item = current();
  const root = $("inspector");
  if (!item) {
    root.replaceChildren(el("p", { className: "empty" }, state.clips.length ? "Choose a clip." : "There is no clip to look at."));
    return;
  }
  if (item.kind === "rejected") {
    root.replaceChildren(
      el("header", {}, el("h2", {}, "Rejected stretch"), el("span", { className: "chip" }, item.label)),
      el("dl", {}, el("div", { className: "value" }, el("dt", {}, "Why"), el("dd", {}, badge(item.confidence)), el("p", { className: "reason" }, item.reason || "No reason is given.")),
        el("div", { className: "value" }, el("dt", {}, "Time"), el("dd", {}, `${clock(item.start)} to ${clock(item.end)}`))),
      el("div", { className: "actions" }, act("Make it a clip after all", "U", restore, "main")),
    );
    return;
  }
  const fresh = root.dataset.clip !== item.key || !root.querySelector(".values");
  if (fresh) {
    root.dataset.clip = item.key;
    root.replaceChildren(
      el("header", {}, el("h2"), el("span", { className: "chip" })),
      el("dl", { className: "values" }, VALUES.map(([name, title]) => valueRow(name, title))),
      el(
        "div",
        { className: "actions" },
        act("Accept", "A", accept, "main"),
        act("Cut here", "C", cutHere),
        act("Merge with next", "M", () => merge(1)),
        act("Reject", "X", reject),
      ),
    );
  }
  root.querySelector("h2").textContent = `Clip ${item.id}`;
  const chip = root.querySelector(".chip");
  chip.textContent = REVIEWS[item.review] || "not reviewed";
  chip.className = `chip ${item.review || "open"}`;
  for (const [name] of VALUES) {
    const row = root.querySelector(`[data-value=${name}]`);
    row.querySelector(".now").textContent = valueText(item, name);
    row.querySelector(".sure").replaceChildren(badge(item.values[name].confidence));
    row.querySelector(".reason").textContent = item.values[name].reason || "No reason is given.";
    row.querySelector(".reason").title = item.values[name].reason;
    if (name === "song") row.querySelector(".swatch").style.background = songColour(item.song);
    if (name === "dancers") {
      for (const button of row.querySelectorAll("[data-n]")) button.setAttribute("aria-pressed", String(Number(button.dataset.n) === item.dancers));
    }
    if ((name === "start" || name === "end") && media && item.start !== null) {
      const k = nearestFrame(media.frames, item[name]);
      const [before, after] = row.querySelectorAll("img");
      for (const [image, index, there] of [[before, k - 1, k > 0], [after, k, k < media.frames.length - 1]]) {
        image.style.visibility = there ? "" : "hidden";
        if (there) picture(image, stillUrl(index), 0);
      }
    }
  }
}

function act(title, key, run, kind = "") {
  return el("button", { type: "button", className: kind, onclick: run, dataset: { act: title } }, `${title} `, el("kbd", {}, key));
}

function valueRow(name, title) {
  const row = el("div", { className: `value ${name}`, dataset: { value: name } }, el("dt", {}, title), el("dd", {}, name === "song" ? el("i", { className: "swatch" }) : null, el("b", { className: "now" })), el("span", { className: "sure" }));
  if (name === "start" || name === "end") {
    const [less, more] = name === "start" ? ["Q", "W"] : ["E", "R"];
    const [inside, outside] = name === "start" ? ["first", "before"] : ["after", "last"];
    row.append(
      el("div", { className: "nudge" },
        el("button", { type: "button", "aria-label": `${title} one picture earlier`, onclick: () => nudge(name, -1) }, "−1 ", el("kbd", {}, less)),
        el("button", { type: "button", "aria-label": `${title} one picture later`, onclick: () => nudge(name, 1) }, "+1 ", el("kbd", {}, more))),
      el("div", { className: "stills" },
        el("figure", { className: name === "start" ? "out" : "in" }, el("img", { alt: "" }), el("figcaption", {}, outside)),
        el("figure", { className: name === "start" ? "in" : "out" }, el("img", { alt: "" }), el("figcaption", {}, inside))),
    );
  } else if (name === "song") {
    row.append(el("div", { className: "nudge" }, el("button", { type: "button", onclick: chooseSong }, "Choose ", el("kbd", {}, "S"))), el("p", { className: "tempo quiet" }));
  } else {
    row.append(el("div", { className: "nudge", role: "group", "aria-label": "Number of dancers" }, [1, 2, 3, 4, 5].map((n) => el("button", { type: "button", dataset: { n }, onclick: () => setDancers(n) }, String(n)))));
  }
  row.append(el("p", { className: "reason" }));
  return row;
}

// ------------------------------------------------------------------------------------------- choosing and playing

function loadMedia(id) {
  if (!mediaOf.has(id)) {
    const get = async (name) => {
      const response = await fetch(`/media/${id}/${name}`);
      if (!response.ok) throw new Error((await response.json()).error);
      return response;
    };
    const loading = (async () => {
      const facts = await (await get("facts")).json();
      const frames = new Float64Array(await (await get("frames")).arrayBuffer());
      const outline = new Uint8Array(await (await get("outline")).arrayBuffer());
      return { facts, frames, outline, pictureOf: (clip) => `/media/${id}/small/${standIn(frames, (clip.start + clip.end) / 2, clip.start, clip.end)}.jpg` };
    })();
    loading.catch(() => mediaOf.delete(id));
    mediaOf.set(id, loading);
  }
  return mediaOf.get(id);
}

async function openCompilation(id, key = undefined, time = undefined) {
  if (id === compilation && key === undefined) return;
  compilation = id;
  media = null;
  stillAt = null;
  stopAt = null;
  beatsFor = posesFor = null;
  overlay.poses = null;
  video.pause();
  video.removeAttribute("src"); // what was shown of another compilation goes at once
  video.load();
  timeline.clear();
  overlay.draw(0);
  $("still").hidden = true;
  $("time").textContent = clock(0);
  notice("");
  if (key === undefined) {
    chosen = null;
    const begin = listed()[0] || items()[0];
    chosen = begin ? begin.key : null;
  } else chosen = key;
  render();
  const told = state.compilations.find((one) => one.id === id);
  try {
    notice(told.present ? "The video is being looked through…" : "");
    const loaded = await loadMedia(id);
    if (compilation !== id) return;
    media = loaded;
    notice("");
    overlay.size = media.facts;
    const candidates = await (await fetch(`/api/candidates/${id}`)).json();
    if (compilation !== id) return;
    timeline.candidates = candidates;
    await timeline.load(`/media/${id}/video`, media.outline, media.facts, media.frames, id);
    if (compilation !== id) return;
    timeline.setZoom(options.zoom);
    const item = current();
    if (time !== undefined && time > 0) seek(time);
    else if (item) seek(item.start);
    if (item) timeline.reveal(item.start, item.end);
    render();
    keepPlace();
  } catch (error) {
    if (compilation === id) notice(error.message);
  }
}

function notice(sentence) {
  $("notice").textContent = sentence;
  $("notice").hidden = !sentence;
}

function choose(item, { seek: go = true, play = options.autoplay } = {}) {
  if (!item) return;
  if (item.compilation !== compilation) {
    openCompilation(item.compilation, item.key);
    return;
  }
  chosen = item.key;
  if (go) {
    video.pause();
    if (item.start !== null) seek(item.start);
  }
  render();
  if (item.start !== null) timeline.reveal(item.start, item.end);
  if (go && play && item.kind === "clip") playClip();
  keepPlace();
}

function step(by) {
  const shown = listed();
  const at = shown.findIndex((item) => item.key === chosen);
  const next = shown[at + by];
  if (next && at >= 0) {
    choose(next);
    return true;
  }
  if (at < 0 && shown.length) {
    choose(shown[0]);
    return true;
  }
  // On to the next compilation that has something to show.
  const order = state.compilations.map((one) => one.id);
  for (let k = order.indexOf(compilation) + by; k >= 0 && k < order.length; k += by) {
    const there = listed(order[k]).filter((item) => item.key !== chosen);
    if (there.length) {
      openCompilation(order[k], (by > 0 ? there[0] : there[there.length - 1]).key);
      return true;
    }
  }
  say(by > 0 ? "This is the last one." : "This is the first one.");
  return false;
}

const now = () => (stillAt !== null ? stillAt : video.currentTime);

// Go to the picture that is on screen at `t`; to its middle, where rounding cannot show its neighbour.
function seek(t) {
  if (!media) return;
  const k = Math.min(frameAt(media.frames, Math.max(0, t)), media.frames.length - 2);
  showFrame(k);
}

function showFrame(k) {
  if (!media) return;
  const { frames } = media;
  const index = Math.min(Math.max(k, 0), frames.length - 2);
  const t = (frames[index] + frames[index + 1]) / 2;
  if (stillAt !== null) {
    stillAt = t;
    picture($("still"), `/media/${compilation}/large/${index}.jpg`, 0);
  } else video.currentTime = t;
  tick();
}

const frameNow = () => (media ? Math.min(frameAt(media.frames, now()), media.frames.length - 2) : 0);

function toggle() {
  if (stillAt !== null) return;
  stopAt = null;
  if (video.paused) video.play().catch(() => {});
  else video.pause();
}

function playClip() {
  const item = current();
  if (!item || item.start === null || stillAt !== null || !media) return;
  playPart(item.start, item.end);
}

function playPart(from, to) {
  seek(Math.max(0, from));
  stopAt = to;
  video.play().catch(() => {});
}

function acrossEdge(edge) {
  const item = current();
  if (item && item.start !== null && media) playPart(item[edge] - 1.5, item[edge] + 1.5);
}

function tick() {
  const t = now();
  if (stopAt !== null && !video.paused && t >= stopAt - 0.012) {
    video.pause();
    const end = stopAt;
    stopAt = null;
    if (media) showFrame(Math.max(0, nearestFrame(media.frames, Math.min(end, media.facts.duration_s)) - 1));
    return;
  }
  $("time").textContent = clock(media ? media.frames[frameNow()] : t, 2);
  $("frame").textContent = media ? `picture ${frameNow()}` : "";
  // While it plays, the browser tells which picture is on screen: see `drawn`.
  if (video.paused || !video.requestVideoFrameCallback) overlay.draw(t);
  timeline.tick(t);
  $("stage").classList.toggle("playing", !video.paused);
}

function follow() {
  tick();
  if (!video.paused) requestAnimationFrame(follow);
}

function drawn(_, { mediaTime }) {
  overlay.draw(mediaTime);
  video.requestVideoFrameCallback(drawn);
}

if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(drawn);
video.addEventListener("play", follow);
video.addEventListener("pause", () => {
  tick();
  keepPlace();
});
video.addEventListener("seeked", tick);
video.addEventListener("loadeddata", tick);
video.addEventListener("error", () => {
  if (!media || !video.getAttribute("src") || stillAt !== null) return;
  stillAt = 0;
  $("still").hidden = false;
  notice("This browser cannot play the video: single pictures are shown instead.");
  const item = current();
  seek(item ? item.start : 0);
});

// Beats and poses of the chosen clip, once one stays with it.
let clipTimer = null;
function lookAfterClip() {
  const item = clipNow();
  clearTimeout(clipTimer);
  if (!item || !media || item.start === null) return;
  const key = `${item.id} ${item.start} ${item.end}`;
  if (beatsFor === key && posesFor === key) return;
  clipTimer = setTimeout(async () => {
    if (posesFor !== key) {
      posesFor = key;
      const response = await fetch(`/api/poses/${item.id}`).catch(() => null);
      if (posesFor === key) {
        overlay.poses = null;
        if (response && response.status === 200) {
          const data = await response.arrayBuffer();
          const [frames, dancers] = new Int32Array(data, 0, 2);
          overlay.show({ start: item.start, frames, dancers, values: new Float32Array(data, 8) }, state.bones);
        }
        overlay.draw(now());
      }
    }
    if (beatsFor !== key && clipNow()?.id === item.id) {
      beatsFor = key;
      const response = await fetch(`/api/beats/${item.id}`).catch(() => null);
      if (beatsFor === key && response && response.status === 200) {
        const found = await response.json();
        timeline.beats = found.beats_s;
        timeline.drawPart();
        const tempo = $("inspector").querySelector(".tempo");
        if (tempo) tempo.textContent = found.tempo_bpm ? `${Math.round(found.tempo_bpm)} bpm` : "";
      }
    }
  }, 350);
}

// ------------------------------------------------------------------------------------------- mending

// The next one is chosen at once, so that keys pressed meanwhile are meant for it.
async function accept() {
  const item = clipNow();
  if (!item) return;
  const shown = listed();
  const next = shown[shown.findIndex((one) => one.key === item.key) + 1];
  const made = edit({ action: "accept", clip: item.id });
  if (next) choose(next);
  const reply = await made;
  if (!next && reply && !reply.error) step(1);
}

async function nudge(edge, by, alone = false) {
  const item = clipNow();
  if (!item || !media) return;
  const reply = await edit({ action: "nudge", clip: item.id, edge, by, alone });
  if (reply && !reply.error) atEdge(edge);
}

// Show the first or the last picture of the chosen clip.
function atEdge(edge) {
  const item = clipNow();
  if (!item || !media) return;
  video.pause();
  const k = nearestFrame(media.frames, item[edge]);
  showFrame(edge === "start" ? k : k - 1);
}

async function edgeHere(edge, alone = false) {
  const item = clipNow();
  if (!item || !media) return;
  // The picture shown is the first of the clip, or the last.
  await edit({ action: "move", clip: item.id, edge, frame: frameNow() + (edge === "end" ? 1 : 0), alone });
}

async function cutHere() {
  if (!media) return;
  const t = media.frames[frameNow()];
  const under = items().find((item) => item.kind === "clip" && item.start <= t + 1e-4 && t < item.end - 1e-4);
  if (!under) {
    tell("There is no clip under the playhead: choose one, then cut it where a new one begins.");
    return;
  }
  const reply = await edit({ action: "cut", clip: under.id, frame: frameNow() });
  if (reply && !reply.error) choose(byKey(`clip-${reply.clip}`), { play: false });
}

async function merge(by) {
  const item = clipNow();
  if (!item) return;
  const clips = items().filter((one) => one.kind === "clip");
  const other = clips[clips.findIndex((one) => one.key === item.key) + by];
  if (!other) {
    tell(`There is no clip ${by > 0 ? "after" : "before"} this one to merge it with.`);
    return;
  }
  const reply = await edit({ action: "merge", clip: item.id, other: other.id });
  if (reply && !reply.error) choose(byKey(`clip-${reply.clip}`), { seek: false });
}

async function reject() {
  const item = clipNow();
  if (!item) return;
  const shown = listed();
  const at = shown.findIndex((one) => one.key === item.key);
  const next = shown[at + 1] || shown[at - 1];
  const made = edit({ action: "reject", clip: item.id });
  if (next) choose(next);
  const reply = await made;
  if (reply && reply.error && !reply.state) choose(item); // it stays
}

async function restore() {
  const item = current();
  if (!item || item.kind !== "rejected") {
    tell("Choose a rejected stretch first: show them with Rejected.");
    return;
  }
  const reply = await edit({ action: "restore", compilation: item.compilation, start: item.start, end: item.end });
  if (reply && !reply.error) choose(byKey(`clip-${reply.clip}`));
}

function setDancers(n) {
  const item = clipNow();
  if (item) edit({ action: "dancers", clip: item.id, n });
}

async function undo(way = "undo") {
  if (state && !state.problems.length && !state[way]) {
    say(way === "undo" ? "There is nothing to undo." : "There is nothing to redo.");
    return;
  }
  const reply = await edit({ action: way });
  if (!reply || reply.error || reply.clip === null) return;
  const clip = state.clips.find((one) => one.id === reply.clip);
  if (clip) choose(clipItem(clip), { play: false });
}

function chooseSong() {
  const item = clipNow();
  if (!item) return;
  video.pause();
  const dialog = $("songs");
  const songs = [...state.songs].sort((a, b) => (b.id === item.song) - (a.id === item.song) || a.id - b.id);
  const find = el("input", { type: "text", id: "song-find", placeholder: "Number or title", autocomplete: "off", "aria-label": "Find a song by its number or title" });
  const list = el("ul", { className: "songs" });
  const take = (song) => {
    dialog.close();
    edit({ action: "song", clip: item.id, song });
  };
  const show = () => {
    const wanted = find.value.trim().toLowerCase();
    const digits = /^\d+$/.test(wanted);
    const found = songs
      .filter((song) => !wanted || (digits && String(song.id).startsWith(wanted)) || `${song.title} ${song.artist}`.toLowerCase().includes(wanted))
      .sort((a, b) => (digits ? (b.id === Number(wanted)) - (a.id === Number(wanted)) : 0));
    list.replaceChildren(
      ...found.map((song) => {
        const with_ = state.clips.find((clip) => clip.song === song.id && clip.compilation === compilation && clip.start !== null);
        const image = el("img", { alt: "" });
        if (with_ && media) queueMicrotask(() => picture(image, stillOf(with_)));
        return el("li", {}, el("button", { type: "button", dataset: { song: song.id }, "aria-current": String(song.id === item.song), onclick: () => take(song.id) },
          el("i", { className: "swatch", style: { background: songColour(song.id) } }), image,
          el("b", {}, `Song ${song.id}`), el("span", {}, [song.title, song.artist].filter(Boolean).join(", ")), el("span", { className: "quiet" }, plural(song.clips, "clip"))));
      }),
      ...(found.length ? [] : [el("li", { className: "empty" }, "No song is called so.")]),
    );
  };
  find.addEventListener("input", show);
  find.addEventListener("keydown", (event) => {
    const first = list.querySelector("button");
    if (event.key === "Enter" && first) {
      event.preventDefault();
      take(Number(first.dataset.song));
    } else if (event.key === "ArrowDown" && first) {
      event.preventDefault();
      first.focus();
    }
  });
  list.addEventListener("keydown", (event) => {
    const way = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!way) return;
    event.preventDefault();
    const next = document.activeElement.closest("li")?.[way];
    (next ? next.querySelector("button") : find)?.focus();
  });
  dialog.replaceChildren(
    el("h2", { id: "songs-title" }, `Song of clip ${item.id}`),
    find,
    list,
    el("div", { className: "row" }, el("button", { type: "button", className: "main", id: "song-new", onclick: () => take(null) }, "A new song"), el("button", { type: "button", onclick: () => dialog.close() }, "Cancel ", el("kbd", {}, "Esc"))),
  );
  dialog.showModal();
  show();
  find.focus();
}

// ------------------------------------------------------------------------------------------- options

function setFilter(name) {
  filters = { ...filters, [name]: !filters[name] };
  renderList();
  keepPlace();
}

function setSkeleton() {
  options.skeleton = overlay.on = !options.skeleton;
  showOptions();
  overlay.draw(now());
  keepPlace();
}

function setAutoplay() {
  options.autoplay = !options.autoplay;
  showOptions();
  keepPlace();
}

function setRate(by) {
  const at = RATES.indexOf(video.playbackRate);
  video.playbackRate = RATES[Math.min(Math.max((at < 0 ? 2 : at) + by, 0), RATES.length - 1)];
  showOptions();
}

function zoomBy(factor) {
  options.zoom = timeline.setZoom(options.zoom * factor);
  const item = current();
  if (item && item.start !== null) timeline.reveal(item.start, item.end);
  keepPlace();
}

function showOptions() {
  $("skeleton-on").setAttribute("aria-pressed", String(options.skeleton));
  $("autoplay").setAttribute("aria-pressed", String(options.autoplay));
  $("rate").textContent = `${video.playbackRate}×`;
}

// ------------------------------------------------------------------------------------------- keys

const stepPicture = (by) => {
  video.pause();
  showFrame(frameNow() + by);
};
const stepSeconds = (by) => seek(now() + by);

// [keys as shown, what they do, test of an event, action]
const KEYS = {
  "Look": [
    [["Space"], "Play or pause", (e) => e.key === " ", toggle],
    [["P"], "Play this clip", "p", playClip],
    [["B", "⇧ B"], "Play across its start, its end", "b", (e) => acrossEdge(e.shiftKey ? "end" : "start"), true],
    [["←", "→"], "One picture back, forward", (e) => !e.shiftKey && /^Arrow(Left|Right)$/.test(e.key), (e) => stepPicture(e.key === "ArrowLeft" ? -1 : 1)],
    [["⇧ ←", "⇧ →"], "One second back, forward", (e) => e.shiftKey && /^Arrow(Left|Right)$/.test(e.key), (e) => stepSeconds(e.key === "ArrowLeft" ? -1 : 1), true],
    [["<", ">"], "Slower, faster", (e) => e.key === "<" || e.key === ">", (e) => setRate(e.key === "<" ? -1 : 1), true],
    [["−", "+"], "Zoom the timeline", (e) => ["-", "+", "="].includes(e.key), (e) => zoomBy(e.key === "-" ? 1 / 1.5 : 1.5), true],
    [["V"], "Skeleton on or off", "v", setSkeleton],
  ],
  "Choose": [
    [["J", "↓"], "Next clip", (e) => e.key === "j" || e.key === "ArrowDown", () => step(1)],
    [["K", "↑"], "Previous clip", (e) => e.key === "k" || e.key === "ArrowUp", () => step(-1)],
    [["F"], "Show the unreviewed only", "f", () => setFilter("unreviewed")],
    [["L"], "Show the unsure only", "l", () => setFilter("low")],
    [["G"], "Show rejected stretches", "g", () => setFilter("rejected")],
    [["D"], "Compare pairs: same song?", "d", () => pairs.show()],
    [["?"], "These keys", (e) => e.key === "?", () => help(), true],
  ],
  "Mend": [
    [["A"], "Accept, go to the next", "a", accept],
    [["C"], "Cut: this picture begins a new clip", "c", cutHere],
    [["M", "⇧ M"], "Merge with the next, the previous", "m", (e) => merge(e.shiftKey ? -1 : 1), true],
    [["Q", "W"], "Start one picture earlier, later", (e) => /^[qw]$/i.test(letter(e)), (e) => nudge("start", (letter(e) === "q" ? -1 : 1) * (e.shiftKey ? 10 : 1), e.altKey), true],
    [["E", "R"], "End one picture earlier, later", (e) => /^[er]$/i.test(letter(e)), (e) => nudge("end", (letter(e) === "e" ? -1 : 1) * (e.shiftKey ? 10 : 1), e.altKey), true],
    [["⇧", "Alt"], "with these: ten pictures; leave the neighbour", () => false, null],
    [["I", "O"], "Start, end at the picture shown", (e) => /^[io]$/i.test(letter(e)), (e) => edgeHere(letter(e) === "i" ? "start" : "end", e.altKey), true],
    [["S"], "Choose the song", "s", chooseSong],
    [["1", "…", "5"], "Number of dancers", (e) => /^[1-5]$/.test(e.key), (e) => setDancers(Number(e.key))],
    [["X"], "Reject: this is no clip", (e) => e.key === "x" || e.key === "Delete", reject],
    [["U"], "Make a rejected stretch a clip", "u", restore],
    [["Z", "Y"], "Undo, redo", (e) => /^[zy]$/i.test(letter(e)), (e) => undo(letter(e) === "y" || e.shiftKey ? "redo" : "undo"), true],
  ],
};

// With Alt, some layouts give other characters: then the key itself counts.
const letter = (e) => (e.altKey && /^Key/.test(e.code) ? e.code.slice(3) : e.key).toLowerCase();

function help() {
  video.pause();
  $("help-body").replaceChildren(
    ...Object.entries(KEYS).map(([title, keys]) => el("section", {}, el("h3", {}, title), el("dl", {}, keys.map(([names, words]) => el("div", {}, el("dt", {}, names.map((name) => (name === "…" ? " … " : el("kbd", {}, name)))), el("dd", {}, words)))))),
  );
  $("help").showModal();
}

document.addEventListener("keydown", (event) => {
  const target = event.target;
  if (document.querySelector("dialog[open]") || target.matches("input, select, textarea")) return;
  if (target.matches("button") && (event.key === " " || event.key === "Enter")) return;
  const command = event.ctrlKey || event.metaKey;
  if (command && !/^[zy]$/i.test(event.key)) return;
  if (!state || state.problems.length) return;
  if (pairs.open && !/^[zy?]$/i.test(event.key)) {
    if (!command && !event.altKey && pairs.key(event.key.length === 1 ? event.key.toLowerCase() : event.key)) event.preventDefault();
    return;
  }
  for (const [, , test, run, modified] of Object.values(KEYS).flat()) {
    if (!run || (!modified && (event.altKey || event.shiftKey))) continue;
    if (typeof test === "string" ? letter(event) === test : test(event)) {
      event.preventDefault();
      run(event);
      return;
    }
  }
});

// A click leaves no button in wait for the space bar.
document.addEventListener("click", (event) => {
  const button = event.target.closest && event.target.closest("button");
  if (button && event.detail > 0 && !button.closest("dialog")) $("stage").focus({ preventScroll: true });
});

for (const [id, run] of Object.entries({
  play: toggle,
  "play-clip": playClip,
  undo: () => undo("undo"),
  redo: () => undo("redo"),
  "open-pairs": () => pairs.show(),
  "open-help": help,
  "only-unreviewed": () => setFilter("unreviewed"),
  "only-low": () => setFilter("low"),
  "with-rejected": () => setFilter("rejected"),
  "skeleton-on": setSkeleton,
  autoplay: setAutoplay,
  rate: () => setRate(video.playbackRate === RATES[RATES.length - 1] ? -(RATES.length - 1) : 1),
  "zoom-in": () => zoomBy(1.5),
  "zoom-out": () => zoomBy(1 / 1.5),
  "banner-close": () => tell(""),
})) $(id).addEventListener("click", () => run());

new ResizeObserver(() => overlay.draw(now())).observe($("screen"));

// For tests, and for whoever looks into the page.
window.review = {
  get state() { return state; },
  get chosen() { return chosen; },
  get ready() { return media !== null && timeline.loaded === true && video.readyState >= 2; },
  get frame() { return frameNow(); },
  get time() { return now(); },
  idle: () => chain,
  showFrame,
};

refresh().then(() => {
  showOptions();
  setTimeout(poll, POLL_MS);
  $("stage").focus();
}, () => gone("The review's server does not answer: start the review again."));
