// The timeline: the whole compilation as a strip, and below it a part with pictures, sound, beats and clips.
//
// Sound and edges are wavesurfer's (its regions plugin); what it cannot show is drawn beside it, for the part in view.

import WaveSurfer from "./vendor/wavesurfer/wavesurfer.esm.js";
import RegionsPlugin from "./vendor/wavesurfer/regions.esm.js";
import { clock, el, picture, songColour, standIn, sync } from "./dom.js";

const TICKS = [0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600];
const HANDLE_COLOUR = "#ffffff";

function fitted(canvas) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const ctx = canvas.getContext("2d");
  ctx.setTransform(scale, 0, 0, scale, 0, 0);
  ctx.clearRect(0, 0, width, height);
  return [ctx, width, height];
}

export class Timeline {
  // `told`: {seek(t), choose(item), moveEdge(clip, edge, t)}.
  constructor(parts, video, nonce, told) {
    this.parts = parts;
    this.told = told;
    this.items = [];
    this.beats = [];
    this.candidates = [];
    this.chosen = null;
    this.duration = 0;
    this.frames = null;
    this.zoom = 40;
    this.regions = RegionsPlugin.create();
    this.wave = WaveSurfer.create({
      container: parts.wave,
      media: video,
      height: 72,
      waveColor: "#5b6675",
      progressColor: "#8593a6",
      cursorColor: "#ffffff",
      cursorWidth: 2,
      minPxPerSec: this.zoom,
      autoScroll: true,
      autoCenter: false,
      dragToSeek: false,
      normalize: false,
      interact: true,
      cspNonce: nonce,
      plugins: [this.regions],
    });
    this.wave.on("scroll", () => this.drawPart());
    this.wave.on("redrawcomplete", () => this.drawPart());
    this.wave.on("interaction", (t) => this.told.seek(t, true));
    this.regions.on("region-updated", (region, side) => {
      const item = this.items.find((one) => one.key === region.id);
      if (!item || item.kind !== "clip") return;
      const edge = side || (Math.abs(region.start - item.start) > Math.abs(region.end - item.end) ? "start" : "end");
      this.told.moveEdge(item, edge, edge === "start" ? region.start : region.end);
    });
    parts.overview.addEventListener("pointerdown", (event) => {
      const box = parts.overview.getBoundingClientRect();
      if (this.duration) this.told.seek(((event.clientX - box.left) / box.width) * this.duration, true);
    });
    new ResizeObserver(() => this.draw()).observe(parts.overview);
  }

  async load(url, outline, facts, frames, compilation) {
    this.duration = facts.duration_s;
    this.frames = frames;
    this.shape = facts.width / facts.height;
    this.compilation = compilation;
    this.regions.clearRegions();
    const peaks = Float32Array.from(outline, (value) => value / 255);
    const loudest = peaks.reduce((a, b) => Math.max(a, b), 0.05);
    this.wave.setOptions({ barHeight: 0.92 / loudest });
    await this.wave.load(url, [peaks], this.duration).catch(() => {}); // a video that does not play still has a timeline
    if (this.compilation !== compilation) return;
    this.loaded = true;
    this.parts.wave.style.visibility = "";
    this.wave.zoom(this.zoom);
    this.place();
    this.draw();
  }

  // Nothing is known of the compilation yet, or its video is not here.
  clear() {
    this.duration = 0;
    this.loaded = false;
    this.beats = [];
    this.candidates = [];
    this.regions.clearRegions();
    this.parts.film.replaceChildren();
    this.parts.wave.style.visibility = "hidden";
    fitted(this.parts.ruler);
    this.drawOverview(0);
  }

  // `items`: {key, kind: clip or rejected, start, end, song, id}.
  show(items, chosen) {
    this.items = items;
    this.chosen = chosen;
    this.place();
    this.draw();
  }

  place() {
    if (!this.duration || !this.loaded) return;
    const held = new Map(this.regions.getRegions().map((region) => [region.id, region]));
    for (const item of this.items) {
      const mine = item.key === this.chosen;
      const color = item.kind === "clip" ? songColour(item.song, 58, mine ? 0.42 : 0.2) : "rgb(255 255 255 / 0.05)";
      const wanted = { start: item.start, end: item.end, color, resize: mine && item.kind === "clip" };
      let region = held.get(item.key);
      held.delete(item.key);
      if (region && region.resize !== wanted.resize) {
        region.remove();
        region = null;
      }
      if (region) region.setOptions(wanted);
      else region = this.regions.addRegion({ id: item.key, drag: false, ...wanted });
      if (!region.element) continue;
      region.element.style.boxShadow = mine ? `inset 0 0 0 2px ${songColour(item.song ?? 0, 72)}` : "";
      region.element.style.zIndex = mine ? "4" : "3";
      for (const handle of region.element.querySelectorAll("[part~=region-handle]")) {
        Object.assign(handle.style, { width: "7px", background: HANDLE_COLOUR, opacity: "0.55", border: "0" });
      }
    }
    for (const region of held.values()) region.remove();
  }

  setZoom(zoom) {
    this.zoom = Math.min(400, Math.max(4, zoom));
    if (this.loaded) this.wave.zoom(this.zoom);
    this.drawPart();
    return this.zoom;
  }

  // Scroll so that a stretch is in view.
  reveal(start, end) {
    if (!this.loaded) return;
    const [from, to] = this.view();
    if (start >= from && Math.min(end, start + (to - from) * 0.8) <= to) return;
    this.wave.setScrollTime(Math.max(0, start - (to - from) * 0.15));
  }

  view() {
    const scale = this.scale();
    const from = this.wave.getScroll() / scale;
    return [from, from + this.wave.getWidth() / scale];
  }

  scale() {
    return Math.max(this.wave.getWrapper().scrollWidth, 1) / Math.max(this.duration, 1e-6);
  }

  draw() {
    this.drawOverview(this.at || 0);
    this.drawPart();
  }

  tick(t) {
    this.at = t;
    this.drawOverview(t);
  }

  drawOverview(t) {
    const [ctx, width, height] = fitted(this.parts.overview);
    if (!this.duration) return;
    const x = (s) => (s / this.duration) * width;
    ctx.fillStyle = "#20242b";
    ctx.fillRect(0, 4, width, height - 8);
    for (const item of this.items) {
      const [a, b] = [x(item.start), x(item.end)];
      const mine = item.key === this.chosen;
      if (item.kind === "clip") {
        ctx.fillStyle = songColour(item.song, item.review ? 56 : 46, item.review ? 1 : 0.72);
        ctx.fillRect(a, mine ? 1 : 4, Math.max(1, b - a - 1), height - (mine ? 2 : 8));
        if (item.review) {
          ctx.fillStyle = "rgb(255 255 255 / .85)";
          ctx.fillRect(a, height - 6, Math.max(1, b - a - 1), 2);
        }
      } else {
        ctx.strokeStyle = "#4b525e";
        ctx.lineWidth = 1;
        ctx.beginPath();
        for (let s = a - height; s < b; s += 6) {
          const [from, to] = [Math.max(s, a), Math.min(s + height - 8, b)];
          if (to > from) {
            ctx.moveTo(from, height - 4 - (from - s));
            ctx.lineTo(to, height - 4 - (to - s));
          }
        }
        ctx.stroke();
      }
      if (mine) {
        ctx.strokeStyle = "#fff";
        ctx.lineWidth = 1.5;
        ctx.strokeRect(a + 0.75, 1.5, Math.max(2, b - a - 1.5), height - 3);
      }
    }
    if (this.loaded) {
      const [from, to] = this.view();
      ctx.strokeStyle = "rgb(255 255 255 / .5)";
      ctx.lineWidth = 1;
      ctx.strokeRect(x(from) + 0.5, 0.5, Math.min(width, x(to)) - x(from) - 1, height - 1);
    }
    ctx.fillStyle = "#fff";
    ctx.fillRect(x(t) - 1, 0, 2, height);
  }

  drawPart() {
    if (!this.duration || !this.loaded) return;
    this.drawFilm();
    this.drawRuler();
    this.drawOverview(this.at || 0);
  }

  drawFilm() {
    const scale = this.scale();
    const [from, to] = this.view();
    const shown = this.items.filter((item) => item.end > from && item.start < to);
    const wide = Math.max(20, Math.round((this.parts.film.clientHeight - 3) * this.shape));
    const step = wide / scale; // s from one picture to the next
    sync(
      this.parts.film,
      shown,
      (item) => item.key,
      (item) => el("div", { className: "piece" }, el("div", { className: "pictures" }), el("p")),
      (node, item) => {
        const [left, right] = [(item.start - from) * scale, (item.end - from) * scale];
        Object.assign(node.style, { left: `${left}px`, width: `${Math.max(2, right - left - 1)}px` });
        node.className = `piece ${item.kind}${item.key === this.chosen ? " chosen" : ""}`;
        node.style.setProperty("--song", item.kind === "clip" ? songColour(item.song) : "#5a616d");
        node.onclick = () => this.told.choose(item);
        const label = node.lastChild;
        label.textContent = item.kind === "clip" ? `${item.id} · song ${item.song}` : item.label;
        label.style.left = `${Math.max(0, -left) + 6}px`;
        const first = Math.max(0, Math.floor((from - item.start) / step));
        const slots = [];
        for (let k = first; item.start + k * step < Math.min(item.end, to); k += 1) slots.push(k);
        sync(
          node.firstChild,
          slots,
          (k) => `${k}/${step.toFixed(4)}`,
          () => el("img", { alt: "", decoding: "async", draggable: false }),
          (image, k) => {
            image.style.left = `${k * wide}px`;
            image.style.width = `${wide}px`;
            const index = standIn(this.frames, item.start + (k + 0.5) * step, item.start, item.end);
            queueMicrotask(() => picture(image, `/media/${this.compilation}/small/${index}.jpg`, 1));
          },
        );
      },
    );
  }

  drawRuler() {
    const [ctx, width, height] = fitted(this.parts.ruler);
    const scale = this.scale();
    const [from, to] = this.view();
    const x = (t) => (t - from) * scale;
    const step = TICKS.find((s) => s * scale >= 70) || TICKS[TICKS.length - 1];
    ctx.font = "11px system-ui, sans-serif";
    ctx.textBaseline = "middle";
    for (let k = Math.ceil(from / step); k * step <= to; k += 1) {
      ctx.fillStyle = "#3c434e";
      ctx.fillRect(x(k * step), 9, 1, height - 9);
      ctx.fillStyle = "#99a2af";
      ctx.fillText(clock(k * step, step < 1 ? 1 : 0), x(k * step) + 4, height - 7);
    }
    // Candidates that no clip uses: where else a cut could be, the surer the brighter.
    for (const candidate of this.candidates) {
      if (candidate.used || candidate.at < from || candidate.at > to) continue;
      ctx.fillStyle = `rgb(242 201 76 / ${0.3 + 0.7 * (candidate.confidence ?? 1)})`;
      ctx.beginPath();
      ctx.moveTo(x(candidate.at) - 4, 0);
      ctx.lineTo(x(candidate.at) + 4, 0);
      ctx.lineTo(x(candidate.at), 7);
      ctx.fill();
    }
    ctx.fillStyle = "#7cc4ff";
    for (const beat of this.beats) if (beat >= from && beat <= to) ctx.fillRect(x(beat) - 0.75, 0, 1.5, 8);
  }
}
