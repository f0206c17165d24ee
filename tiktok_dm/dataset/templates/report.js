// Finding and ordering clips; the page is whole without it.
(function () {
  const form = document.querySelector(".tools");
  const list = document.querySelector(".clips");
  const clips = Array.from(list.children);
  const find = document.getElementById("find");
  const order = document.getElementById("order");
  const shown = document.getElementById("shown");
  const rising = { id: true, coverage: true };
  function show() {
    const words = find.value.toLowerCase().replace(/,/g, " ").replace(/(clip|song|compilation)\s+(\d+)/g, "$1:$2").split(/\s+/).filter(Boolean);
    let n = 0;
    for (const clip of clips) {
      const text = " " + clip.dataset.text.replace(/(clip|song|compilation)\s+(\d+)/g, "$1:$2") + " ";
      clip.hidden = !words.every((word) => (/[:\d]/.test(word) ? text.includes(" " + word + " ") || text.includes(":" + word + " ") : text.includes(word)));
      n += clip.hidden ? 0 : 1;
    }
    shown.textContent = n + " of " + clips.length;
  }
  function sort() {
    const key = order.value;
    const sign = rising[key] ? 1 : -1;
    clips.sort((a, b) => sign * (a.dataset[key] - b.dataset[key]) || a.dataset.id - b.dataset.id);
    list.append(...clips);
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  find.addEventListener("input", show);
  order.addEventListener("change", sort);
  form.hidden = false;
  show();
})();
