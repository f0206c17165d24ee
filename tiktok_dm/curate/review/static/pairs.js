// "Same song?": two clips side by side, played in time with each other, and the answer.

import { $, badge, clock, el, picture, plural, songColour } from "./dom.js";

const HEAR = ["Left", "Right", "Both"];

export class Pairs {
  // `told`: {state(), edit(body), media(compilation), close()}.
  constructor(root, told) {
    this.root = root;
    this.told = told;
    this.hear = 2;
    this.open = false;
    this.index = 0;
    this.playing = false;
  }

  list() {
    const { pairs } = this.told.state();
    // The doubtful ones first: there a person knows more than the program.
    const doubt = (pair) => Math.abs((pair.confidence ?? 0.5) - 0.5);
    return [...pairs].sort((p, q) => (p.answer !== null) - (q.answer !== null) || doubt(p) - doubt(q) || p.a - q.a || p.b - q.b);
  }

  show() {
    this.open = true;
    this.order = this.list().map((pair) => [pair.a, pair.b]);
    this.index = 0;
    this.root.hidden = false;
    this.shown = null;
    this.render();
  }

  hide() {
    this.pause();
    this.open = false;
    this.root.hidden = true;
    this.root.replaceChildren();
    this.told.close();
  }

  // Pairs in the order in which they stood when the page was opened, less those that are gone.
  current() {
    const { pairs } = this.told.state();
    const found = new Map(pairs.map((pair) => [`${pair.a} ${pair.b}`, pair]));
    this.order = this.order.filter(([a, b]) => found.has(`${a} ${b}`));
    this.index = Math.min(Math.max(this.index, 0), Math.max(0, this.order.length - 1));
    return this.order.length ? found.get(this.order[this.index].join(" ")) : null;
  }

  render() {
    if (!this.open) return;
    const pair = this.current();
    const { pairs, clips } = this.told.state();
    const answered = pairs.filter((one) => one.answer !== null).length;
    const head = el(
      "header",
      {},
      el("h2", {}, "Same song?"),
      el("p", { className: "quiet" }, pairs.length ? `${answered} of ${pairs.length} answered` : ""),
      el("button", { type: "button", id: "pairs-close", onclick: () => this.hide() }, "Back to the clips ", el("kbd", {}, "Esc")),
    );
    if (!pair) {
      this.pause();
      this.root.replaceChildren(head, el("p", { className: "empty" }, "No pairs of clips were proposed: there is nothing to compare."));
      return;
    }
    const both = [pair.a, pair.b].map((id) => clips.find((clip) => clip.id === id));
    const key = JSON.stringify([pair.a, pair.b, both.map((clip) => [clip.start, clip.end])]);
    if (this.shown !== key) {
      this.pause();
      this.shown = key;
      this.sides = both.map((clip, k) => this.side(clip, k));
      // The music's common stretch, on the clock of the left clip.
      const [a, b] = both;
      this.map = (t) => pair.offset + t / pair.speed;
      this.from = Math.max(0, -pair.offset * pair.speed);
      this.to = Math.min(a.end - a.start, (b.end - b.start - pair.offset) * pair.speed);
      if (!(this.to > this.from)) [this.from, this.to, this.map] = [0, Math.min(a.end - a.start, b.end - b.start), (t) => t];
      this.clipsShown = both;
      this.speed = pair.speed;
      this.body = el("div", { className: "duo" }, this.sides.map((side) => side.root));
      this.seek(this.from);
    }
    const said = { same: "You said: the same song.", different: "You said: different songs." }[pair.answer] || "";
    both.forEach((clip, k) => {
      this.sides[k].title.replaceChildren(
        `Clip ${clip.id}`,
        el("span", { className: "quiet" }, ` compilation ${clip.compilation}, ${clock(clip.start)}`),
        el("span", { className: "song" }, el("i", { style: { background: songColour(clip.song) } }), `song ${clip.song}`),
      );
    });
    const foot = el(
      "div",
      { className: "verdict" },
      el(
        "div",
        { className: "row" },
        el("button", { type: "button", id: "pair-play", onclick: () => this.toggle() }, el("span", {}, "Play both "), el("kbd", {}, "Space")),
        el(
          "div",
          { className: "filters", role: "group", "aria-label": "Hear" },
          HEAR.map((name, k) =>
            el("button", { type: "button", "aria-pressed": String(this.hear === k), onclick: () => this.listen(k) }, `${name} `, el("kbd", {}, String(k + 1))),
          ),
        ),
        el("p", { className: "quiet grow" }, pair.speed !== 1 ? `The right one's music is ${pair.speed.toFixed(2)} times as fast; it is played at the left one's speed.` : ""),
        el("button", { type: "button", onclick: () => this.go(-1), "aria-label": "Previous pair" }, "‹ ", el("kbd", {}, "K")),
        el("span", { className: "quiet", id: "pair-place" }, `${this.index + 1} of ${this.order.length}`),
        el("button", { type: "button", onclick: () => this.go(1), "aria-label": "Next pair" }, el("kbd", {}, "J"), " ›"),
      ),
      el("p", { className: "why" }, badge(pair.confidence), ` ${pair.reason || "No reason is given."}`),
      el(
        "div",
        { className: "row answers" },
        el("button", { type: "button", id: "answer-same", className: pair.answer === "same" ? "big said" : "big", onclick: () => this.answer("same") }, "Same song ", el("kbd", {}, "S")),
        el("button", { type: "button", id: "answer-different", className: pair.answer === "different" ? "big said" : "big", onclick: () => this.answer("different") }, "Different songs ", el("kbd", {}, "D")),
        el("p", { className: "quiet" }, said),
      ),
    );
    this.root.replaceChildren(head, this.body, foot);
    this.label();
    [0, 1].forEach((k) => this.paint(k));
  }

  side(clip, k) {
    const video = el("video", { preload: "auto", playsInline: true, src: `/media/${clip.compilation}/video` });
    video.preservesPitch = false;
    const title = el("h3");
    const wave = el("canvas", { className: "mini" });
    const root = el("article", { className: "side" }, title, el("div", { className: "screen" }, video), wave);
    const side = { root, title, video, wave, outline: null };
    this.told.media(clip.compilation).then((media) => {
      side.outline = media.outline;
      side.hz = media.facts.outline_hz;
      this.paint(k);
    }).catch(() => {});
    video.addEventListener("timeupdate", () => this.paint(k));
    return side;
  }

  paint(k) {
    const side = this.sides && this.sides[k];
    const clip = this.clipsShown && this.clipsShown[k];
    if (!side || !clip || !side.outline || !side.wave.isConnected) return;
    const canvas = side.wave;
    const scale = window.devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * scale;
    canvas.height = canvas.clientHeight * scale;
    const ctx = canvas.getContext("2d");
    const n = Math.floor(canvas.width / (3 * scale));
    const first = clip.start * side.hz;
    const per = ((clip.end - clip.start) * side.hz) / n;
    const done = (side.video.currentTime - clip.start) / (clip.end - clip.start);
    for (let j = 0; j < n; j += 1) {
      let most = 0;
      for (let i = Math.floor(first + j * per); i < first + (j + 1) * per; i += 1) most = Math.max(most, side.outline[i] || 0);
      const height = Math.max(2 * scale, (most / 255) * canvas.height);
      ctx.fillStyle = j / n < done ? songColour(clip.song) : "#5b6675";
      ctx.fillRect(j * 3 * scale, (canvas.height - height) / 2, 2 * scale, height);
    }
  }

  seek(t) {
    const [a, b] = this.sides;
    a.video.currentTime = this.clipsShown[0].start + t + 0.005;
    b.video.currentTime = this.clipsShown[1].start + Math.max(0, this.map(t)) + 0.005;
  }

  listen(k) {
    this.hear = k;
    this.sides.forEach((side, j) => {
      side.video.muted = k !== 2 && k !== j;
    });
    this.render();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    const [a, b] = this.sides;
    const t = a.video.currentTime - this.clipsShown[0].start;
    if (t < this.from - 0.05 || t > this.to - 0.1) this.seek(this.from);
    b.video.playbackRate = Math.min(4, Math.max(0.25, 1 / this.speed));
    this.playing = true;
    this.label();
    Promise.all([a.video.play(), b.video.play()]).catch(() => this.pause());
    const step = () => {
      if (!this.playing) return;
      const now = a.video.currentTime - this.clipsShown[0].start;
      const drift = b.video.currentTime - this.clipsShown[1].start - this.map(now);
      if (Math.abs(drift) > 0.08 && !a.video.seeking && !b.video.seeking) b.video.currentTime = this.clipsShown[1].start + this.map(now);
      if (now >= this.to) this.pause();
      else requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  pause() {
    this.playing = false;
    this.label();
    for (const side of this.sides || []) side.video.pause();
  }

  label() {
    const words = this.root.querySelector("#pair-play span");
    if (words) words.textContent = this.playing ? "Pause " : "Play both ";
  }

  go(by) {
    this.index = Math.min(Math.max(this.index + by, 0), this.order.length - 1);
    this.render();
  }

  async answer(answer) {
    const pair = this.current();
    if (!pair) return;
    const body = { action: "answer", a: pair.a, b: pair.b, answer };
    let reply = await this.told.edit(body, true);
    if (reply && reply.clips) {
      const move = await this.askSplit(pair, reply);
      if (!move) return;
      reply = await this.told.edit({ ...body, move });
    }
    if (reply && reply.state && this.index < this.order.length - 1) this.index += 1;
    this.render();
  }

  // Which clips of a song go to a new one? Null where the person thought better of it.
  askSplit(pair, { clips, suggested, error }) {
    this.pause();
    const dialog = $("split");
    const state = this.told.state();
    const boxes = clips.map((id) => {
      const clip = state.clips.find((one) => one.id === id);
      const image = el("img", { alt: "" });
      this.told.media(clip.compilation).then((media) => picture(image, media.pictureOf(clip))).catch(() => {});
      const box = el("input", { type: "checkbox", value: String(id), checked: suggested.includes(id) });
      if (id === pair.a || id === pair.b) box.disabled = true;
      const said = id === pair.a ? "stays" : id === pair.b ? "goes" : "";
      return el("label", { className: "choice" }, box, image, el("span", {}, `Clip ${id}`, el("span", { className: "quiet" }, ` compilation ${clip.compilation}, ${clock(clip.start)} ${said}`)));
    });
    return new Promise((resolve) => {
      const form = el(
        "form",
        { method: "dialog" },
        el("h2", { id: "split-title" }, "Which clips go to the new song?"),
        el("p", {}, error),
        el("div", { className: "choices" }, boxes),
        el("div", { className: "row" }, el("button", { className: "main", value: "yes", id: "split-yes" }, "Make the new song"), el("button", { value: "" }, "Cancel ", el("kbd", {}, "Esc"))),
      );
      dialog.replaceChildren(form);
      dialog.returnValue = "";
      dialog.onclose = () => {
        const chosen = [...dialog.querySelectorAll("input:checked")].map((box) => Number(box.value));
        resolve(dialog.returnValue === "yes" ? chosen : null);
      };
      dialog.showModal();
      dialog.querySelector("#split-yes").focus();
    });
  }

  get summary() {
    const left = this.told.state().pairs.filter((pair) => pair.answer === null).length;
    return [left, left ? plural(left, "pair") + " to answer" : "all pairs are answered"];
  }

  key(name) {
    if (name === "Escape") this.hide();
    else if (name === " ") this.toggle();
    else if (name === "j" || name === "ArrowRight" || name === "ArrowDown") this.go(1);
    else if (name === "k" || name === "ArrowLeft" || name === "ArrowUp") this.go(-1);
    else if (["1", "2", "3"].includes(name)) this.listen(Number(name) - 1);
    else if (name === "s") this.answer("same");
    else if (name === "d") this.answer("different");
    else return false;
    return true;
  }
}
