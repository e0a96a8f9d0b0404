"use strict";
// Draws every figure of the page; each caption states the content of its figure in words.
(() => {
  const source = document.getElementById("figure-data");
  if (!source) return;
  const figures = JSON.parse(source.textContent);
  const options = { displayModeBar: false, responsive: true, showTips: false };
  const drawn = [];
  for (const [name, figure] of Object.entries(figures)) {
    const canvas = document.getElementById("plot-" + name);
    if (canvas) drawn.push(Plotly.newPlot(canvas, figure.data, figure.layout, options));
  }
  Promise.all(drawn).then(() => document.documentElement.setAttribute("data-plots", "drawn"));
  const fit = () => document.querySelectorAll(".canvas").forEach((canvas) => Plotly.Plots.resize(canvas));
  window.addEventListener("beforeprint", fit);
  window.addEventListener("afterprint", fit);
})();
