(function () {
  "use strict";
  // Colours in the figures are names of this page's variables, so that both schemes share them.
  function resolve(value, style) {
    if (typeof value === "string" && value.startsWith("var(")) {
      return style.getPropertyValue(value.slice(4, -1)).trim();
    }
    if (Array.isArray(value)) { return value.map(function (item) { return resolve(item, style); }); }
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(function (pair) {
        return [pair[0], resolve(pair[1], style)];
      }));
    }
    return value;
  }
  function draw() {
    const style = getComputedStyle(document.documentElement);
    document.querySelectorAll("[data-figure]").forEach(function (element) {
      const figure = JSON.parse(document.getElementById(element.dataset.figure).textContent);
      const drawn = resolve(figure, style);
      drawn.layout.font.family = style.getPropertyValue("--font").trim();
      Plotly.react(element, drawn.data, drawn.layout, { responsive: true, displayModeBar: false });
    });
  }
  draw();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
