// Added to the page that `hyperlearn report --live` serves: when there is a newer one it is loaded, with folds, switches,
// hidden methods and the place on the page as the reader left them.
"use strict";
(() => {
  const KEY = "hyperlearn-live", EVERY = 3000;
  const every = selector => [...document.querySelectorAll(selector)];
  const remember = () => sessionStorage.setItem(KEY, JSON.stringify({
    folds: every("details").map(element => element.open),
    switches: every("[data-switch]").map(element => element.value),
    methods: every(".names button").map(element => [element.textContent, element.getAttribute("aria-pressed")]),
    place: scrollY,
  }));
  const restore = state => {
    every("details").forEach((element, i) => { if (i in state.folds) element.open = state.folds[i]; });
    every("[data-switch]").forEach((element, i) => {
      if (!(i in state.switches) || element.value === state.switches[i]) return;
      element.value = state.switches[i];
      element.dispatchEvent(new Event("change"));
    });
    every(".names button").forEach((element, i) => {
      const [name, pressed] = state.methods[i] ?? [];
      if (name === element.textContent && pressed !== element.getAttribute("aria-pressed")) element.click();
    });
    scrollTo(0, state.place);
  };
  const kept = sessionStorage.getItem(KEY);
  // Two frames later every figure in an open fold has been laid out and drawn for the first time.
  if (kept) requestAnimationFrame(() => requestAnimationFrame(() => restore(JSON.parse(kept))));
  sessionStorage.removeItem(KEY);

  const shown = document.documentElement.dataset.version;
  setInterval(async () => {
    try {
      const version = await (await fetch("version", { cache: "no-store" })).text();
      if (version !== shown) { remember(); location.reload(); }
    } catch { document.title = document.title.replace(/^(not connected: )?/, "not connected: "); }
  }, EVERY);
})();
