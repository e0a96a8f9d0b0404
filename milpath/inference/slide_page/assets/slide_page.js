"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (name) => document.getElementById(name);
  const { pyramid, layers, tiles } = data;
  const path = (level, x, y) => `${level}/${x}_${y}`;
  const viewer = OpenSeadragon({
    id: "slide",
    drawer: "canvas", // images of file:// may not be read back, as WebGL would
    showNavigationControl: false,
    showNavigator: false,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    maxZoomPixelRatio: 8,
    visibilityRatio: 0.3,
    animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.6,
    tileSources: {
      width: pyramid.width, height: pyramid.height, tileSize: pyramid.tile_size, tileOverlap: pyramid.overlap,
      minLevel: pyramid.smallest, maxLevel: pyramid.largest,
      getTileUrl: (level, x, y) => (pyramid.inline ? pyramid.inline[path(level, x, y)] : `${pyramid.folder}/${path(level, x, y)}.jpg`),
    },
  });
  viewer.canvas.setAttribute("role", "application");
  viewer.canvas.setAttribute("aria-label", data.keys);

  const opacity = byId("opacity"), shown = byId("shown"), choice = byId("layer"), toggle = byId("toggle");
  let item = null, wanted = 0, faded = 0;
  const drawOpacity = () => {
    const value = Number(opacity.value);
    shown.textContent = `${value} %`;
    toggle.setAttribute("aria-pressed", String(value > 0));
    if (item) item.setOpacity(value / 100);
  };
  const drawScale = (layer) => {
    byId("low").textContent = layer.low;
    byId("high").textContent = layer.high;
    byId("bar").style.background = `linear-gradient(to right, ${layer.colours.join(", ")})`;
    byId("equal").hidden = layer.equal_share === null;
    byId("equal").style.left = `${layer.equal_share}%`;
    byId("equal-words").hidden = layer.equal_share === null;
  };
  const showLayer = (index) => {
    const number = ++wanted;
    drawScale(layers[index]);
    viewer.addTiledImage({
      tileSource: { type: "image", url: layers[index].image, buildPyramid: false },
      x: 0, y: 0, width: 1, opacity: Number(opacity.value) / 100,
      success: ({ item: added }) => {
        if (item) viewer.world.removeItem(item);
        item = added;
        if (number === wanted) document.body.dataset.layer = layers[index].title;
        drawOpacity();
      },
    });
  };
  opacity.addEventListener("input", drawOpacity);
  choice.addEventListener("change", () => showLayer(choice.selectedIndex));
  toggle.addEventListener("click", () => {
    const value = Number(opacity.value);
    if (value > 0) faded = value;
    opacity.value = value > 0 ? 0 : faded || 60;
    drawOpacity();
  });
  const zoom = (factor) => () => { viewer.viewport.zoomBy(factor); viewer.viewport.applyConstraints(); };
  byId("in").addEventListener("click", zoom(1.6));
  byId("out").addEventListener("click", zoom(1 / 1.6));
  byId("whole").addEventListener("click", () => { mark(null); viewer.viewport.goHome(); });

  let here = null;
  const mark = (rectangle) => {
    if (here) viewer.removeOverlay(here);
    here = null;
    document.querySelectorAll(".tiles [aria-pressed=true]").forEach((button) => button.setAttribute("aria-pressed", "false"));
    if (!rectangle) return;
    here = document.createElement("div");
    here.className = "here";
    viewer.addOverlay({ element: here, location: rectangle });
  };
  const onSlide = (tile) => {
    const unit = 1 / (pyramid.width * pyramid.downsample);
    return new OpenSeadragon.Rect(tile.x0 * unit, tile.y0 * unit, tile.size0 * unit, tile.size0 * unit);
  };
  document.querySelectorAll(".tiles button").forEach((button, index) => {
    button.addEventListener("click", () => {
      const rectangle = onSlide(tiles[index]), room = rectangle.width * 1.5;
      mark(rectangle);
      button.setAttribute("aria-pressed", "true");
      viewer.viewport.fitBoundsWithConstraints(
        new OpenSeadragon.Rect(rectangle.x - room, rectangle.y - room, rectangle.width + 2 * room, rectangle.height + 2 * room));
    });
  });

  const scale = byId("scale");
  const drawRule = () => {
    if (!data.microns_per_pixel) return;
    const perScreen = (data.microns_per_pixel * pyramid.width) / viewer.viewport.getZoom(true) / viewer.viewport.getContainerSize().x;
    const longest = perScreen * 140, power = 10 ** Math.floor(Math.log10(longest));
    const length = [5, 2, 1].map((step) => step * power).find((step) => step <= longest);
    scale.hidden = false;
    scale.firstElementChild.style.width = `${length / perScreen}px`;
    scale.lastElementChild.textContent = length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(1))} µm`;
  };
  viewer.addHandler("open", () => { showLayer(0); drawRule(); document.body.dataset.ready = "true"; });
  ["zoom", "resize", "animation"].forEach((name) => viewer.addHandler(name, drawRule));
  // A frame gets its size late: until somebody moves the slide, all of it is shown.
  let moved = false;
  ["pointerdown", "wheel", "keydown"].forEach((name) => document.addEventListener(name, () => { moved = true; }, { capture: true, passive: true }));
  viewer.addHandler("resize", () => { if (!moved) setTimeout(() => viewer.viewport.goHome(true)); });
})();
