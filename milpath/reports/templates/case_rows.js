"use strict";
// A table of cases that stands in the page: a search over its rows, and what the address of a case that is not listed says.
(() => {
  const get = (id) => document.getElementById(id);
  const table = get("case-table");
  const rows = [...table.querySelectorAll("tbody tr")];
  const total = Number(table.dataset.total);
  const part = rows.length < total;
  // Titles without units and marks: "grade: true" is found as "grade true high", "grade high" or "high".
  const titles = [...table.querySelectorAll("thead th")].map((head) => head.textContent.replace(/\[.*\]|:/g, " "));
  const plain = (text) => text.trim().toLowerCase().replace(/\s+/g, " ");
  const haystack = rows.map((row) => [...row.children].flatMap((cell, place) => {
    const title = titles[place];
    return [`${title} ${cell.textContent}`, `${title.replace(/\b(true|predicted)\b/, " ")} ${cell.textContent}`].map(plain);
  }).join("\n"));
  const search = searchOver(haystack);
  const filter = () => {
    const found = search(get("filter-text").value);
    rows.forEach((row, number) => { row.hidden = !found(number); });
    const shown = rows.filter((row) => !row.hidden).length;
    get("case-count").textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")}${part ? " listed" : ""} cases.`;
  };
  const showFromAddress = () => {
    if (!location.hash.startsWith("#case-")) return;
    let wanted = location.hash.slice(1);
    const row = rows.find((each) => each.id === wanted);
    if (!row) {
      try { wanted = decodeURIComponent(wanted); } catch { /* a link typed by hand */ }
      const where = part ? ` in its list; predictions.csv next to it has all ${total.toLocaleString("en")} cases` : "";
      get("case-count").textContent = `This page has no case ${wanted.slice("case-".length)}${where}.`;
      get("cases").scrollIntoView();
    } else {
      if (row.hidden) {
        get("case-filters").reset();
        filter();
      }
      row.scrollIntoView({ block: "center" });
    }
  };
  get("case-filters").hidden = false;
  get("case-filters").addEventListener("input", filter);
  get("case-filters").addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", showFromAddress);
  window.addEventListener("load", showFromAddress);  // figures and stacked tables have moved what is below them
  filter();
  showFromAddress();
})();
