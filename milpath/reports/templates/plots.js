"use strict";
// Draws every figure of the page, in the colours of the screen; each caption states the content of its figure in words.
(() => {
  const source = document.getElementById("figure-data");
  if (!source) return;
  const figures = JSON.parse(source.textContent);
  const options = { displayModeBar: false, responsive: true, showTips: false };
  const dark = window.matchMedia("screen and (prefers-color-scheme: dark)");
  // Ink, paper and the curves on a dark ground: lighter colours of the same hues.
  const NIGHT = {
    white: "#19222c", "#1f2933": "#e6ebf0", "#52606d": "#aab6c2", "#e4e7eb": "#323f4b", "#9aa5b1": "#7b8794",
    "#0072b2": "#58a6e8", "#d55e00": "#f28e4b", "#009e73": "#35c79c", "#cc79a7": "#e6a5c8", "#e69f00": "#f4bd4f",
    "#56b4e9": "#a5daf8", "#f5f7fa": "#22303d", "#08519c": "#2f78b8",
  };
  const recoloured = (value) => {
    if (typeof value === "string") return NIGHT[value.toLowerCase()] || value;
    if (Array.isArray(value)) return value.map(recoloured);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, recoloured(each)]));
    return value;
  };
  // Plotly keeps and changes what it is given; the figures stay as they are.
  const copyOf = (figure) => (dark.matches ? recoloured(figure) : JSON.parse(JSON.stringify(figure)));
  const canvasOf = (name) => document.getElementById("plot-" + name);
  const shown = Object.entries(figures).filter(([name]) => canvasOf(name));
  const draw = () => Promise.all(shown.map(([name, figure]) => {
    const copy = copyOf(figure);
    return Plotly.react(canvasOf(name), copy.data, copy.layout, options);
  }));
  draw().then(() => {
    // Figures move what is below them, such as the case that the address names.
    const wanted = document.getElementById(location.hash.slice(1));
    if (wanted) wanted.scrollIntoView({ block: "center" });
    document.documentElement.setAttribute("data-plots", "drawn");
  });
  let printing = false;
  // Paper is not a screen, so printing changes this as well.
  dark.addEventListener("change", () => { if (!printing) draw(); });

  // On paper all figures are light and of one width, whatever the window was; the style sheet scales them to a column.
  const PAPER = 540;
  const onPaper = () => { printing = true; shown.forEach(([name, figure]) => {
    const copy = JSON.parse(JSON.stringify(figure));
    const alone = canvasOf(name).closest("figure").classList.contains("alone");
    const size = { autosize: false, width: alone ? 900 : PAPER, height: alone ? 560 : copy.layout.height };
    Plotly.react(canvasOf(name), copy.data, { ...copy.layout, ...size }, { ...options, responsive: false });
  }); };
  window.addEventListener("beforeprint", onPaper);
  window.addEventListener("afterprint", () => { printing = false; draw(); });

  const file = (name) => (document.title + " " + name).replace(/[^\p{L}\p{N}]+/gu, "_").replace(/^_+|_+$/g, "");
  const saveSvg = (name) => {
    const { data, layout } = JSON.parse(JSON.stringify(figures[name]));
    const size = { width: 720, height: layout.height < 250 ? layout.height : 480 };
    return Plotly.toImage({ data, layout }, { format: "svg", ...size }).then((address) => {
      const link = document.createElement("a");
      link.download = file(name) + ".svg";
      link.href = address;
      link.click();
    });
  };
  // A browser writes vector PDF when it prints: the page is reduced to the figure for that.
  const savePdf = (name) => {
    const figure = canvasOf(name).closest("figure");
    const title = document.title;
    const end = () => {
      document.title = title;
      figure.classList.remove("alone");
      document.body.classList.remove("one-figure");
      window.removeEventListener("afterprint", end);
    };
    document.title = file(name);
    figure.classList.add("alone");
    document.body.classList.add("one-figure");
    window.addEventListener("afterprint", end);
    window.print();
  };
  document.querySelectorAll("[data-save]").forEach((button) => button.addEventListener("click", () => {
    (button.dataset.save === "svg" ? saveSvg : savePdf)(button.dataset.figure);
  }));
})();
