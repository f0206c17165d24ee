// Small helpers of the page: elements, times, colours, pictures that load a few at a time.

export const $ = (id) => document.getElementById(id);

export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else if (name === "dataset") Object.assign(node.dataset, value);
    else if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// Bring the children of `parent` in line with `items` without making anew what is there already.
export function sync(parent, items, key, make, update) {
  const held = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let node = held.get(name);
    if (node) held.delete(name);
    else {
      node = make(item);
      node.dataset.key = name;
    }
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of held.values()) node.remove();
}

export function clock(seconds, digits = 2) {
  if (seconds === null || seconds === undefined) return "–";
  const unit = 10 ** digits;
  const ticks = Math.round(seconds * unit);
  const whole = Math.floor(ticks / unit);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const rest = digits ? "." + String(ticks % unit).padStart(digits, "0") : "";
  return (h ? `${h}:${String(m).padStart(2, "0")}` : `${m}`) + `:${String(s).padStart(2, "0")}${rest}`;
}

export const plural = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

// Neighbouring ids get hues far apart (the golden angle).
export const songColour = (song, light = 62, alpha = 1) => `hsl(${(song * 137.508 + 200) % 360} 58% ${light}% / ${alpha})`;

export function level(confidence) {
  if (confidence === null || confidence === undefined) return "unknown";
  return confidence >= 0.8 ? "high" : confidence >= 0.5 ? "middle" : "low";
}

const MARKS = { high: "●", middle: "◐", low: "○", unknown: "○" };

// Confidence as a mark, a colour and a number: never colour alone.
export function badge(confidence) {
  const kind = level(confidence);
  const number = kind === "unknown" ? "–" : confidence.toFixed(2);
  const words = kind === "unknown" ? "confidence not known" : `confidence ${number}`;
  return el("span", { className: `badge ${kind}`, title: words, "aria-label": words, role: "img" }, `${MARKS[kind]} ${number}`);
}

const MOST = 3; // pictures asked for at a time: many would keep the edits waiting
let waiting = [];
let loading = 0;
const inView = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting || !target.isConnected) continue;
    inView.unobserve(target);
    waiting.push(target);
  }
  next();
});

// Let an image show `url` once it is in view and its turn comes; the lowest rank first.
export function picture(image, url, rank = 2) {
  if (image.dataset.wanted === url) return;
  image.dataset.wanted = url;
  image.dataset.rank = rank;
  inView.unobserve(image);
  inView.observe(image);
}

function next() {
  waiting = waiting.filter((image) => {
    if (!image.isConnected) delete image.dataset.wanted;
    return image.isConnected;
  });
  while (loading < MOST && waiting.length) {
    let best = 0;
    waiting.forEach((image, k) => {
      if (image.dataset.rank < waiting[best].dataset.rank) best = k;
    });
    const [image] = waiting.splice(best, 1);
    const url = image.dataset.wanted;
    if (image.getAttribute("src") === url) continue;
    loading += 1;
    const loader = new Image();
    const done = () => {
      loading -= 1;
      if (image.dataset.wanted === url && loader.naturalWidth) image.src = url;
      next();
    };
    loader.onload = loader.onerror = done;
    loader.src = url;
  }
}

// Number of the picture that is on screen at `t`: the last that has come.
export function frameAt(times, t) {
  let low = 0;
  let high = times.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (times[middle] <= t + 1e-4) low = middle;
    else high = middle;
  }
  return low;
}

// The picture that stands for the instant `t` of a stretch: one at a whole second where there is one, since the server
// makes those in one go.
export function standIn(times, t, start, end) {
  const second = Math.round(t);
  const whole = second < start ? Math.ceil(start) : second >= end ? Math.ceil(end) - 1 : second;
  return frameAt(times, whole >= start && whole < end ? whole : t);
}

// Number of the instant nearest to `t`; the last one is the end of the video.
export function nearestFrame(times, t) {
  const k = frameAt(times, t);
  return k + 1 < times.length && times[k + 1] - t < t - times[k] ? k + 1 : k;
}
