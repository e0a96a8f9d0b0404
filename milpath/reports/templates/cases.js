"use strict";
// The case table: sorting, filtering and paging over columns of plain values, and a dialog for a single case.
// Text from slides and files is untrusted: it is only set as textContent, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("case-data").textContent);
  const PAGE = 25;
  const get = (id) => document.getElementById(id);
  const body = document.querySelector("#case-table tbody");
  const heads = [...document.querySelectorAll("#case-table th")];
  const dialog = get("case");
  const details = Object.entries(data.details);
  const all = data.id.map((_, row) => row);
  const score = all.map((row) => data.probabilities[row][data.positiveClass ?? data.predicted[row]]);
  const columns = { id: data.id, split: data.split, label: data.label, predicted: data.predicted, score, wrongness: data.wrongness, slides: data.numSlides };
  const state = { key: "wrongness", down: true, page: 0, rows: all, open: -1, opener: null };

  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const isWrong = (row) => data.label[row] !== data.predicted[row];
  // A deferred case is right or wrong all the same: deferral must not hide an error.
  const outcome = (row) => (isWrong(row) ? "wrong" : "right");
  const MARKS = { wrong: "✕ wrong", right: "✓ correct" };
  const mark = (row) => MARKS[outcome(row)] + (data.deferred[row] ? " → deferred" : "");
  // Everything that a case shows can be found, each value after its title.
  const haystack = all.map((row) => [
    data.id[row],
    data.splitNames[data.split[row]],
    "true " + data.classNames[data.label[row]],
    "predicted " + data.classNames[data.predicted[row]],
    mark(row),
    ...details.map(([name, values]) => name.replaceAll("_", " ") + " " + values[row]),
    // "isup 3" finds the column isup_grade, too.
    ...details.filter(([name]) => name.includes("_")).map(([name, values]) => name.split("_")[0] + " " + values[row]),
    ...(data.unfamiliarity.length ? ["unfamiliar " + data.unfamiliarity[row]] : []),
    score[row].toFixed(3),
    data.wrongness[row].toFixed(3),
  ].join("\n").toLowerCase());
  const search = searchOver(haystack);
  const anchor = (row) => "#case-" + encodeURIComponent(data.id[row]);

  const options = (select, names, chosen) => {
    select.append(new Option("all", ""));
    names.forEach((name, number) => select.append(new Option(name, String(number))));
    if (chosen >= 0) select.value = String(chosen);
  };
  options(get("filter-split"), data.splitNames, data.splitNames.indexOf(data.reported));
  options(get("filter-label"), data.classNames, -1);

  const select = () => {
    const found = search(get("filter-text").value);
    const split = get("filter-split").value;
    const label = get("filter-label").value;
    const wanted = get("filter-outcome").value;
    const matches = (row) =>
      (split === "" || data.split[row] === Number(split)) &&
      (label === "" || data.label[row] === Number(label)) &&
      (wanted === "" || (wanted === "refer" ? data.deferred[row] === 1 : (wanted === "wrong") === isWrong(row))) &&
      found(row);
    const values = columns[state.key];
    const sign = state.down ? -1 : 1;
    const compare = (a, b) => (values[a] < values[b] ? -sign : values[a] > values[b] ? sign : a - b);
    state.rows = all.filter(matches).sort(compare);
    state.page = 0;
    draw();
  };

  const draw = () => {
    const pages = Math.max(1, Math.ceil(state.rows.length / PAGE));
    const shown = state.rows.slice(state.page * PAGE, (state.page + 1) * PAGE);
    body.replaceChildren(...shown.map(rowOf));
    get("case-table").dispatchEvent(new Event("rows-drawn", { bubbles: true }));
    heads.forEach((head) => {
      const own = head.dataset.key === state.key;
      head.setAttribute("aria-sort", own ? (state.down ? "descending" : "ascending") : "none");
    });
    const wrong = state.rows.filter(isWrong).length;
    get("case-count").textContent =
      `${state.rows.length.toLocaleString("en")} of ${all.length.toLocaleString("en")} cases, ${wrong.toLocaleString("en")} wrong`;
    get("page-number").textContent = `page ${state.page + 1} of ${pages}`;
    get("page-back").disabled = state.page === 0;
    get("page-on").disabled = state.page >= pages - 1;
  };

  const rowOf = (row) => {
    const line = element("tr");
    const first = element("th");
    first.scope = "row";
    const button = element("button", data.id[row], "link");
    button.type = "button";
    button.title = data.id[row];
    button.addEventListener("click", (event) => { event.stopPropagation(); open(row, button); });
    first.append(button);
    const called = element("td", data.classNames[data.predicted[row]]);
    called.append(" ", element("span", mark(row), "mark " + (data.deferred[row] && !isWrong(row) ? "refer" : outcome(row))));
    const error = element("td", data.wrongness[row].toFixed(3), "numeric");
    line.append(
      first,
      element("td", data.splitNames[data.split[row]]),
      ...(data.numSlides.length ? [element("td", String(data.numSlides[row]), "numeric")] : []),
      element("td", data.classNames[data.label[row]]),
      called,
      element("td", score[row].toFixed(3), "numeric"),
      error,
    );
    line.addEventListener("click", () => open(row, button));
    return line;
  };

  const picture = (file, words) => {
    const figure = element("figure", undefined, "picture");
    const image = element("img");
    image.alt = words;
    image.loading = "lazy";
    image.addEventListener("error", () => {
      figure.replaceChildren(element("p", `The picture is in ${data.folder}, which is not next to this page.`, "note"));
    });
    image.src = encodeURI(data.folder + "/" + file);
    figure.append(image, element("figcaption", words));
    return figure;
  };

  const facts = (pairs) => {
    const list = element("dl", undefined, "record");
    pairs.forEach(([name, value]) => list.append(element("dt", name), element("dd", value)));
    return list;
  };

  const bars = (row) => {
    const list = element("ul", undefined, "bars");
    data.classNames.forEach((name, number) => {
      const share = data.probabilities[row][number];
      const item = element("li");
      const track = element("span", undefined, "track");
      const fill = element("span");
      fill.style.width = 100 * share + "%";
      track.setAttribute("aria-hidden", "true");
      track.append(fill);
      item.append(element("span", name, "name"), track, element("span", share.toFixed(3), "numeric"));
      list.append(item);
    });
    return list;
  };

  const open = (row, opener) => {
    state.open = state.rows.indexOf(row);
    if (opener) state.opener = opener;
    get("case-title").textContent = data.id[row];
    get("case-link").href = anchor(row);
    remember(anchor(row));
    state.address = location.hash;
    const called = `${data.classNames[data.predicted[row]]} (${mark(row)})`;
    const words = element("div");
    const pictures = element("div");
    words.append(
      bars(row),
      facts([
        ["Split", data.splitNames[data.split[row]]],
        ["True class", data.classNames[data.label[row]]],
        ["Predicted", called],
        ...details.map(([name, values]) => [name.replaceAll("_", " "), values[row] || "unknown"]),
        ...(data.numSlides.length ? [["Slides", String(data.numSlides[row])]] : []),
        ...(data.numTiles[row] ? [
          ["Tiles", String(data.numTiles[row])],
          ["Attention entropy", data.entropy[row].toFixed(3)],
        ] : []),
        ...(data.unfamiliarity.length ? [["Unfamiliar", data.unfamiliarity[row]]] : []),
        ...(data.numTiles[row] ? [
          ["Tiles with the highest attention", data.top[row].map(([tile, weight]) => `#${tile} ${weight.toFixed(3)}`).join(", ")],
        ] : []),
      ]),
    );
    if (data.overlay[row]) pictures.append(picture(data.overlay[row], "Attention at the positions of the tiles. Research use only, not for diagnosis."));
    data.classOverlays[row].forEach(([words, file]) => pictures.append(picture(file, `${words[0].toUpperCase()}${words.slice(1)}, on one scale for all classes. Research use only, not for diagnosis.`)));
    if (data.montage[row]) pictures.append(picture(data.montage[row], "Tiles of the bag, highest attention first. Research use only, not for diagnosis."));
    else pictures.append(element("p", "This case has no picture: only the cases with the largest errors have pictures.", "note"));
    get("case-body").replaceChildren(words, pictures);
    get("case-back").disabled = state.open <= 0;
    get("case-on").disabled = state.open < 0 || state.open >= state.rows.length - 1;
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    get("case-title").focus();
  };
  // The address names the open case, so that it can be sent to somebody; it makes no entry in the history.
  const remember = (hash) => {
    try { history.replaceState(null, "", hash || location.pathname + location.search); } catch { /* a page without an address */ }
  };
  const openFromAddress = () => {
    if (!location.hash.startsWith("#case-")) return;
    let wanted = location.hash.slice("#case-".length);
    try { wanted = decodeURIComponent(wanted); } catch { /* a link typed by hand */ }
    const row = data.id.indexOf(wanted);
    if (row < 0) {
      get("case-count").textContent = `This page has no case ${wanted}.`;
      get("cases").scrollIntoView();
      return;
    }
    if (!state.rows.includes(row)) { get("case-filters").reset(); get("filter-split").value = ""; select(); }
    state.page = Math.floor(state.rows.indexOf(row) / PAGE);
    draw();
    open(row, body.children[state.rows.indexOf(row) % PAGE].querySelector("button"));
  };
  const step = (by) => {
    const next = state.open + by;
    if (next >= 0 && next < state.rows.length) open(state.rows[next]);
  };

  heads.forEach((head) => head.querySelector("button").addEventListener("click", () => {
    const key = head.dataset.key;
    state.down = state.key === key ? !state.down : ["wrongness", "score", "slides"].includes(key);
    state.key = key;
    select();
  }));
  get("case-filters").addEventListener("input", select);
  get("case-filters").addEventListener("submit", (event) => event.preventDefault());
  get("page-back").addEventListener("click", () => { state.page -= 1; draw(); });
  get("page-on").addEventListener("click", () => { state.page += 1; draw(); });
  get("case-back").addEventListener("click", () => step(-1));
  get("case-on").addEventListener("click", () => step(1));
  get("case-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => { if (location.hash === state.address) remember(""); if (state.opener && state.opener.isConnected) state.opener.focus(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  window.addEventListener("hashchange", openFromAddress);
  select();
  openFromAddress();
})();
