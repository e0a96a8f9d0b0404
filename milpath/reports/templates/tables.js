"use strict";
// Tables on narrow screens: where the columns of a table do not fit, each row becomes a list of "column: value", so that none
// is cut. Roles are set in words, because an element that is laid out as a block loses those of a table.
(() => {
  const boxes = [...document.querySelectorAll(".scroll, .rows")];
  const roles = { table: "table", thead: "rowgroup", tbody: "rowgroup", tr: "row", td: "cell" };
  const name = (table) => {
    for (const [tag, role] of Object.entries(roles)) table.querySelectorAll(tag).forEach((part) => part.setAttribute("role", role));
    table.setAttribute("role", "table");
    table.querySelectorAll("th").forEach((head) => head.setAttribute("role", head.scope === "row" ? "rowheader" : "columnheader"));
    const titles = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
    table.querySelectorAll("tbody tr").forEach((row) =>
      [...row.children].forEach((cell, place) => { if (titles[place]) cell.dataset.title = titles[place]; }));
  };
  const fit = () => boxes.forEach((box) => {
    box.classList.remove("stacked");
    const narrow = box.classList.contains("rows") ? box.clientWidth < 620 : box.scrollWidth > box.clientWidth + 1;
    box.classList.toggle("stacked", narrow);
  });
  const update = (table) => { name(table); };
  boxes.forEach((box) => box.querySelectorAll("table").forEach(update));
  document.addEventListener("rows-drawn", (event) => update(event.target));
  fit();
  let width = window.innerWidth;
  window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; fit(); } });
})();
