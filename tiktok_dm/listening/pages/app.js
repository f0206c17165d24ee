"use strict";
// One page, shown by the stage that the server says. An answer is put into localStorage, sent at once with keepalive,
// and taken out when the server has it: it outlives a closed tab, a lost connection and a reload.

const $ = (id) => document.getElementById(id);
const PENDING = "listening-pending";
const ALIVE_MS = 15000;
const WAIT_MS = 3000;

let trial = null;      // what the server handed out
let sides = [];        // players of this trial, in the order in which they should be heard
let sending = false;
let aliveTimer = 0;

async function call(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", keepalive: true, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  const reply = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  let told = {};
  try { told = await reply.json(); } catch { /* no body */ }
  return { status: reply.status, told };
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function persist(path, body) {
  // Tries again until the server answers at all; the server counts an answer once, however often it comes.
  for (let wait = 500; ; wait = Math.min(wait * 2, 10000)) {
    try {
      const reply = await call(path, body);
      if (reply.status < 500) { trouble(""); return reply; }
    } catch { /* offline */ }
    trouble("The connection is lost. Your answer is kept, and this page tries again.");
    await pause(wait);
  }
}

function page(name) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== "page-" + name;
}

function paragraphs(box, texts) {
  box.replaceChildren(...texts.map((text) => { const p = document.createElement("p"); p.textContent = text; return p; }));
}

function show(state) {
  clearInterval(aliveTimer);
  for (const side of sides) side.stop();
  sides = [];
  trial = null;
  if (state.of !== undefined) {
    $("progress").hidden = $("count").hidden = false;
    $("progress").setAttribute("aria-valuemax", state.of);
    $("progress").setAttribute("aria-valuenow", state.answered);
    $("progress").firstElementChild.style.width = 100 * state.answered / state.of + "%";
    $("count").textContent = state.answered + " of " + state.of;
  }
  $("footer").hidden = !(state.stage === "trial" || state.stage === "wait");
  if (state.link) $("link").textContent = location.origin + state.link;
  page(state.stage);
  if (state.stage === "consent") {
    document.title = $("consent-title").textContent = state.title;
    paragraphs($("instructions"), state.instructions);
    paragraphs($("consent"), state.consent);
    $("contact").hidden = !state.contact;
    $("contact").textContent = "Questions: " + state.contact;
  } else if (state.stage === "trial") {
    showTrial(state.trial);
  } else if (state.stage === "wait") {
    setTimeout(load, WAIT_MS);
  } else if (state.stage === "done") {
    $("code").textContent = state.code;
    if (state.cut_short) $("done-text").textContent = "No further clips are free at the moment, so you are done. Your answers are saved.";
  }
}

function player(box, source, video, onHeard) {
  // No seeking and no native controls: a clip counts as heard when it ran to its end. `plays` counts whole playings.
  const media = box.querySelector("video");
  const button = box.querySelector(".play");
  const word = button.querySelector(".word");
  const line = box.querySelector(".bar i");
  const heard = box.querySelector(".heard");
  const side = { plays: 0, ready: false };
  let frame = 0;
  const draw = () => {
    line.style.width = (media.duration ? 100 * media.currentTime / media.duration : 0) + "%";
    if (!media.paused) frame = requestAnimationFrame(draw);
  };
  const label = () => {
    const playing = !media.paused && !media.ended;
    box.classList.toggle("playing", playing);
    word.textContent = playing ? "Pause" : side.plays ? "Play again" : "Play";
  };
  media.onloadedmetadata = () => { if (video) $("players").classList.toggle("wide", media.videoWidth > media.videoHeight); };
  media.onplay = () => { label(); cancelAnimationFrame(frame); draw(); };
  media.onpause = label;
  media.onended = () => {
    side.plays += 1;
    heard.textContent = "✓ Heard to the end";
    heard.classList.add("yes");
    label();
    draw();
    onHeard();
  };
  media.onerror = () => { if (media.getAttribute("src")) trouble("The clip could not be loaded. Please reload the page."); };
  side.toggle = () => {
    if (!media.paused) { media.pause(); return; }
    for (const other of sides) if (other !== side) other.pause();
    if (media.ended) media.currentTime = 0;
    media.play().catch(() => trouble("The browser did not start the clip. Please press Play once more."));
  };
  side.pause = () => media.pause();
  side.stop = () => {
    media.onended = media.onerror = media.onpause = media.onplay = media.onloadedmetadata = null;
    media.pause();
    media.removeAttribute("src");
    media.load();
  };
  button.onclick = side.toggle;
  heard.textContent = "";
  heard.classList.remove("yes");
  line.style.width = "0";
  media.src = source;
  media.load();
  label();
  return side;
}

function showTrial(next) {
  trial = next;
  document.title = next.title;
  $("title").textContent = next.title;
  $("note").textContent = next.note;
  $("note").hidden = !next.note;
  $("question").textContent = next.question;
  $("players").classList.toggle("sound", !next.video);
  $("players").classList.toggle("two", Boolean(next.original));
  $("player-original").hidden = !next.original;
  $("clip-name").hidden = !next.original;
  if (next.original) sides.push(player($("player-original"), next.original, next.video, refresh));
  sides.push(player($("player-clip"), next.clip, next.video, refresh));
  const labelled = next.choices.some((choice) => choice.label);
  $("choices").classList.toggle("labelled", labelled);
  $("last-key").textContent = next.choices.length;
  $("choices").replaceChildren(...next.choices.map((choice) => {
    const label = document.createElement("label");
    label.className = "choice";
    const input = document.createElement("input");
    input.type = "radio";
    input.name = "answer";
    input.value = choice.value;
    input.setAttribute("aria-label", choice.label ? choice.value + ", " + choice.label : String(choice.value));
    input.onchange = refresh;
    const number = document.createElement("b");
    number.textContent = choice.value;
    const text = document.createElement("span");
    text.textContent = choice.label;
    label.append(input, number);
    if (choice.label) label.append(text);
    return label;
  }));
  refresh();
  $("main").focus({ preventScroll: true });
  scrollTo(0, 0);
  aliveTimer = setInterval(() => { if (trial) call("/api/alive", { trial: trial.id }).catch(() => {}); }, ALIVE_MS);
}

const chosen = () => document.querySelector('input[name="answer"]:checked');

function refresh() {
  const all = sides.length > 0 && sides.every((side) => side.plays > 0);
  for (const input of document.querySelectorAll('input[name="answer"]')) input.disabled = !all || sending;
  $("next").disabled = !all || sending || !chosen();
  $("hint").textContent = all ? "" : sides.length > 1
    ? "Play the original and the clip to their end; then you can answer." : "Play the clip to its end; then you can answer.";
}

async function send() {
  const answer = chosen();
  if (!trial || sending || !answer || $("next").disabled) return;
  sending = true;
  const clip = sides[sides.length - 1];
  const original = sides.length > 1 ? sides[0] : null;
  const body = { trial: trial.id, answer: Number(answer.value), plays: clip.plays, original_plays: original ? original.plays : 0 };
  remember(body);
  refresh();
  for (const side of sides) side.pause();
  await deliver(body);
}

function remember(body) {
  try { body ? localStorage.setItem(PENDING, JSON.stringify(body)) : localStorage.removeItem(PENDING); } catch { /* no storage */ }
}

async function deliver(body) {
  const { status, told } = await persist("/api/answer", body);
  sending = false;
  if (status === 425) { remember(null); trouble(told.error); refresh(); return; }
  remember(null);
  if (status === 200) show(told);
  else await load(told.error);
}

async function load(message) {
  let pending = null;
  try { pending = JSON.parse(localStorage.getItem(PENDING)); } catch { /* no storage */ }
  if (pending) {
    await persist("/api/answer", pending);
    remember(null);
  }
  const { told } = await persist("/api/state");
  show(told);
  if (typeof message === "string") trouble(message);
}

$("agree").onchange = () => { $("begin").disabled = !$("agree").checked; };
$("begin").onclick = async () => {
  $("begin").disabled = true;
  const { status, told } = await persist("/api/begin", {});
  if (status === 200) { show(told); return; }
  trouble(told.error);
  $("begin").disabled = false;
};
$("next").onclick = send;
$("copy").onclick = async () => {
  try { await navigator.clipboard.writeText($("code").textContent); $("copy").textContent = "Copied"; }
  catch { getSelection().selectAllChildren($("code")); }
};

addEventListener("keydown", (event) => {
  if (!trial || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const tag = event.target.tagName;
  if (tag === "SUMMARY" || tag === "A") return;
  if (event.key === " " && tag !== "BUTTON") {
    event.preventDefault();
    const next = sides.find((side) => side.plays === 0) || sides[sides.length - 1];
    next.toggle();
  } else if (event.key >= "1" && event.key <= String(trial.choices.length)) {
    const input = document.querySelector('input[name="answer"][value="' + event.key + '"]');
    if (input && !input.disabled) { input.checked = true; input.focus({ preventScroll: true }); refresh(); }
  } else if (event.key === "Enter" && tag !== "BUTTON") {
    event.preventDefault();
    send();
  }
});

addEventListener("pagehide", () => {
  if (trial && !sending) navigator.sendBeacon("/api/leave", new Blob([JSON.stringify({ trial: trial.id })], { type: "application/json" }));
});
addEventListener("pageshow", (event) => { if (event.persisted) load(); });

load();
