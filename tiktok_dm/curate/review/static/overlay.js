// The skeletons of the dancers, drawn over the video.

const COLOURS = ["#ffd166", "#6ee7d8", "#ff8fb1", "#a8c7ff", "#c3f584"];
const POSE_FPS = 30;

export class Overlay {
  constructor(canvas, video) {
    this.canvas = canvas;
    this.video = video;
    this.on = true;
    this.poses = null;
    this.size = null;
  }

  // `poses`: {start, frames, dancers, values: Float32Array (frames, dancers, 25, 3)}, or null.
  show(poses, bones) {
    this.poses = poses;
    this.bones = bones;
  }

  draw(t) {
    const { canvas } = this;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const ctx = canvas.getContext("2d");
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, canvas.width, canvas.height);
    canvas.dataset.dancers = "0";
    if (!this.on || !this.poses || !this.size) return;
    const { start, frames, dancers, values } = this.poses;
    const k = Math.floor((t - start) * POSE_FPS + 1e-3);
    if (k < 0 || k >= frames) return;
    // The video stands in the middle of its box, as large as fits.
    const fit = Math.min(width / this.size.width, height / this.size.height);
    const left = (width - this.size.width * fit) / 2;
    const top = (height - this.size.height * fit) / 2;
    ctx.setTransform(fit * scale, 0, 0, fit * scale, left * scale, top * scale);
    const thick = Math.max(2, this.size.height / 220);
    let seen = 0;
    for (let d = 0; d < dancers; d += 1) {
      const at = (k * dancers + d) * 75;
      const there = (joint) => values[at + joint * 3 + 2] > 0.05;
      ctx.lineCap = "round";
      let drawn = false;
      for (const [colour, width] of [["rgba(0,0,0,.65)", thick * 2], [COLOURS[d % COLOURS.length], thick]]) {
        ctx.strokeStyle = colour;
        ctx.lineWidth = width;
        ctx.beginPath();
        for (const [a, b] of this.bones) {
          if (!there(a) || !there(b)) continue;
          ctx.moveTo(values[at + a * 3], values[at + a * 3 + 1]);
          ctx.lineTo(values[at + b * 3], values[at + b * 3 + 1]);
          drawn = true;
        }
        ctx.stroke();
      }
      seen += drawn ? 1 : 0;
    }
    canvas.dataset.dancers = String(seen);
  }
}
