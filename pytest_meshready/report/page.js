"use strict";
(() => {
  const root = document.documentElement;
  const lines = [...document.querySelectorAll(".line")];
  const tiles = [...document.querySelectorAll(".tile")];
  root.classList.add("js");
  const show = (status) => {
    for (const tile of tiles) tile.setAttribute("aria-pressed", String(tile.dataset.status === status));
    for (const line of lines) line.classList.toggle("hidden", Boolean(status) && line.dataset.status !== status);
    for (const part of document.querySelectorAll("[data-group]")) {
      const own = lines.filter((line) => line.dataset.section === part.dataset.group || line.dataset.subsection === part.dataset.group);
      part.classList.toggle("hidden", own.every((line) => line.classList.contains("hidden")));
    }
  };
  for (const tile of tiles) {
    tile.addEventListener("click", () => show(tile.getAttribute("aria-pressed") === "true" ? "" : tile.dataset.status));
  }
  const open = (all) => { for (const line of lines) line.open = all; };
  document.getElementById("open")?.addEventListener("click", () => open(true));
  document.getElementById("close")?.addEventListener("click", () => open(false));
  const target = () => {
    const line = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (line instanceof HTMLDetailsElement) { show(""); line.open = true; line.scrollIntoView(); }
  };
  addEventListener("hashchange", target);
  addEventListener("beforeprint", () => open(true));
  target();
})();
