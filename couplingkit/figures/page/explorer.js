"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (name) => document.getElementById(name);
  const CUBIC = -0.5;
  const WIDEST = 480;
  const ARRAYS = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };
  const state = {
    photo: 0, points: [null, null], active: 0, compare: false, opacity: 0.75, range: "shared", masks: false, hover: null, hidden: new Set(),
  };

  // ---- features: decoded when a photo is first shown --------------------------------------------------------------
  const decoded = new Map();

  function numbers(text, kind) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new ARRAYS[kind](bytes.buffer);
  }

  function features(photo, model) {
    const key = photo + "/" + model;
    if (!decoded.has(key)) {
      const packed = data.features[photo][model];
      const codes = numbers(packed.codes, packed.type);
      const offset = numbers(packed.offset, "float32"), scale = numbers(packed.scale, "float32");
      const [rows, columns] = packed.grid, K = packed.channels, count = rows * columns;
      const unit = new Float32Array(count * K);
      for (let cell = 0; cell < count; cell++) {
        let squared = 0;
        for (let k = 0; k < K; k++) {
          const value = offset[k] + scale[k] * codes[cell * K + k];
          unit[cell * K + k] = value;
          squared += value * value;
        }
        const length = Math.sqrt(squared);
        for (let k = 0; k < K && length > 0; k++) unit[cell * K + k] /= length;
      }
      decoded.set(key, { unit, lengths: numbers(packed.lengths, "float32"), rows, columns, K, frame: packed.frame, weights: new Map() });
    }
    return decoded.get(key);
  }

  // Where a photo's pixel lies, in cells; cell 0 has its centre at 0.
  const across = (f, x) => (f.frame.left + (x + 0.5) * f.frame.width / f.frame.photo[1]) / f.frame.stride - 0.5;
  const down = (f, y) => (f.frame.top + (y + 0.5) * f.frame.height / f.frame.photo[0]) / f.frame.stride - 0.5;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  function affinity(f, point) {
    const cx = across(f, point.x), cy = down(f, point.y);
    const left = Math.floor(cx), top = Math.floor(cy);
    const query = new Float64Array(f.K);
    for (const [row, down_] of [[top, 1 - (cy - top)], [top + 1, cy - top]]) {
      for (const [column, across_] of [[left, 1 - (cx - left)], [left + 1, cx - left]]) {
        const cell = clamp(row, 0, f.rows - 1) * f.columns + clamp(column, 0, f.columns - 1);
        const weight = down_ * across_ * f.lengths[cell];
        for (let k = 0; k < f.K; k++) query[k] += weight * f.unit[cell * f.K + k];
      }
    }
    let squared = 0;
    for (const value of query) squared += value * value;
    const length = Math.sqrt(squared), count = f.rows * f.columns;
    const map = new Float64Array(count);
    for (let cell = 0; cell < count; cell++) {
      let sum = 0;
      for (let k = 0; k < f.K; k++) sum += f.unit[cell * f.K + k] * query[k];
      map[cell] = f.lengths[cell] > 0 && length > 0 ? clamp(sum / length, -1, 1) : NaN;
    }
    return map;
  }

  // ---- from cells to pixels: cubic convolution, the outermost cell goes on for ever ---------------------------------
  function cubic(distance) {
    const far = Math.abs(distance);
    if (far < 1) return ((CUBIC + 2) * far - (CUBIC + 3)) * far * far + 1;
    return far < 2 ? ((CUBIC * far - 5 * CUBIC) * far + 8 * CUBIC) * far - 4 * CUBIC : 0;
  }

  function taps(position, cells) {
    const base = Math.floor(position);
    return [-1, 0, 1, 2].map((offset) => [clamp(base + offset, 0, cells - 1), cubic(position - base - offset)]);
  }

  // The same for each of `count` pixels along a side of the photo, as flat arrays: four cells and weights a pixel.
  function tapsAlong(f, axis, count) {
    const key = axis + count;
    if (!f.weights.has(key)) {
      const side = axis === "x" ? f.frame.photo[1] : f.frame.photo[0];
      const place = axis === "x" ? across : down, cells = axis === "x" ? f.columns : f.rows;
      const index = new Int32Array(4 * count), weight = new Float64Array(4 * count);
      for (let pixel = 0; pixel < count; pixel++) {
        taps(place(f, (pixel + 0.5) * side / count - 0.5), cells).forEach(([cell, share], tap) => {
          index[4 * pixel + tap] = cell;
          weight[4 * pixel + tap] = share;
        });
      }
      f.weights.set(key, { index, weight });
    }
    return f.weights.get(key);
  }

  function upsampled(f, map, width, height) {
    const columns = tapsAlong(f, "x", width), rows = tapsAlong(f, "y", height);
    const wide = new Float64Array(f.rows * width);
    for (let row = 0; row < f.rows; row++) {
      const from = row * f.columns;
      for (let x = 0; x < width; x++) {
        let sum = 0;
        for (let tap = 4 * x; tap < 4 * x + 4; tap++) sum += columns.weight[tap] * map[from + columns.index[tap]];
        wide[row * width + x] = sum;
      }
    }
    const pixels = new Float64Array(width * height);
    for (let y = 0; y < height; y++) {
      const [a, b, c, d] = rows.weight.subarray(4 * y, 4 * y + 4);
      const [i, j, k, l] = rows.index.subarray(4 * y, 4 * y + 4).map((row) => row * width);
      for (let x = 0; x < width; x++) {
        pixels[y * width + x] = a * wide[i + x] + b * wide[j + x] + c * wide[k + x] + d * wide[l + x];
      }
    }
    return pixels;
  }

  function limitsOf(map) {
    let low = Infinity, high = -Infinity;
    for (const value of map) if (!Number.isNaN(value)) { low = Math.min(low, value); high = Math.max(high, value); }
    return low <= high ? [low, high] : null;
  }

  // Pixels of a map; undefined cells do not count for their neighbours and stay undefined themselves.
  function pixelsOf(f, map, width, height) {
    if (!limitsOf(map)) return new Float64Array(width * height).fill(NaN);
    const [low, high] = limitsOf(map);
    let values;
    if (map.some(Number.isNaN)) {
      values = upsampled(f, map.map((value) => (Number.isNaN(value) ? 0 : value)), width, height);
      const share = upsampled(f, map.map((value) => (Number.isNaN(value) ? 0 : 1)), width, height);
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const row = clamp(Math.floor(down(f, (y + 0.5) * f.frame.photo[0] / height - 0.5) + 0.5), 0, f.rows - 1);
          const column = clamp(Math.floor(across(f, (x + 0.5) * f.frame.photo[1] / width - 0.5) + 0.5), 0, f.columns - 1);
          const undefinedCell = Number.isNaN(map[row * f.columns + column]);
          values[y * width + x] = undefinedCell ? NaN : values[y * width + x] / share[y * width + x];
        }
      }
    } else {
      values = upsampled(f, map, width, height);
    }
    for (let i = 0; i < values.length; i++) values[i] = clamp(values[i], low, high);
    return values;
  }

  function valueAt(f, map, point) {
    if (!limitsOf(map)) return NaN;
    const [low, high] = limitsOf(map);
    const row = clamp(Math.floor(down(f, point.y) + 0.5), 0, f.rows - 1);
    const column = clamp(Math.floor(across(f, point.x) + 0.5), 0, f.columns - 1);
    if (Number.isNaN(map[row * f.columns + column])) return NaN;
    let sum = 0, share = 0;
    for (const [y, wy] of taps(down(f, point.y), f.rows)) {
      for (const [x, wx] of taps(across(f, point.x), f.columns)) {
        const value = map[y * f.columns + x];
        if (!Number.isNaN(value)) { sum += wy * wx * value; share += wy * wx; }
      }
    }
    return clamp(sum / share, low, high);
  }

  // ---- drawing --------------------------------------------------------------------------------------------------------
  const pictures = data.photos.map((photo) => {
    const image = new Image();
    image.src = photo.jpeg;
    return image;
  });
  // One number a colour, as the bytes of a picture lie in memory.
  const packedColour = (red, green, blue) => new Uint32Array(new Uint8Array([red, green, blue, 255]).buffer)[0];
  const INFERNO = Uint32Array.from({ length: 256 }, (_, i) => packedColour(...data.colours.slice(3 * i, 3 * i + 3)));
  const UNDEFINED = packedColour(140, 140, 140);
  const outlines = new Map();
  const scratch = document.createElement("canvas");

  function viewSize() {
    const { width, height } = data.photos[state.photo];
    const scale = Math.min(1, WIDEST / Math.max(width, height));
    return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  }

  function maskBits(object) {
    const [height, width] = object.size;
    const bits = new Uint8Array(height * width);
    let place = 0, inside = 0;
    for (const run of object.runs) {
      if (inside) bits.fill(1, place, place + run);
      place += run;
      inside = 1 - inside;
    }
    return bits;
  }

  function outline(photo) {
    if (!outlines.has(photo)) {
      const objects = data.photos[photo].objects;
      const canvas = document.createElement("canvas");
      if (objects.length) {
        const [height, width] = objects[0].size;
        [canvas.width, canvas.height] = [width, height];
        const context = canvas.getContext("2d");
        objects.forEach((object, number) => {
          const bits = maskBits(object);
          object.bits = bits;
          context.fillStyle = `hsl(${(number * 137.5) % 360} 90% 65%)`;
          for (let y = 0; y < height; y++) {
            for (let x = 0; x < width; x++) {
              if (!bits[y * width + x]) continue;
              const edge = x === 0 || y === 0 || x === width - 1 || y === height - 1
                || !bits[y * width + x - 1] || !bits[y * width + x + 1] || !bits[(y - 1) * width + x] || !bits[(y + 1) * width + x];
              if (edge) context.fillRect(x - 0.5, y - 0.5, 2, 2);
            }
          }
        });
      }
      outlines.set(photo, canvas);
    }
    return outlines.get(photo);
  }

  function paint(canvas, pixels, limits, marks) {
    const [width, height] = viewSize();
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    if (pictures[state.photo].complete) context.drawImage(pictures[state.photo], 0, 0, width, height);
    if (pixels) {
      if (scratch.width !== width || scratch.height !== height) [scratch.width, scratch.height] = [width, height];
      const image = new ImageData(width, height), colours = new Uint32Array(image.data.buffer), [low, high] = limits;
      const spread = high > low ? 255 / (high - low) : 0;
      for (let i = 0; i < pixels.length; i++) {
        const value = pixels[i];
        colours[i] = value === value ? INFERNO[clamp(Math.round((value - low) * spread), 0, 255)] : UNDEFINED;
      }
      scratch.getContext("2d").putImageData(image, 0, 0);
      context.globalAlpha = state.opacity;
      context.drawImage(scratch, 0, 0);
      context.globalAlpha = 1;
    }
    if (state.masks && data.photos[state.photo].objects.length) context.drawImage(outline(state.photo), 0, 0, width, height);
    for (const [point, colour] of marks) mark(context, point, colour, width, height);
  }

  function mark(context, point, colour, width, height) {
    const photo = data.photos[state.photo];
    context.beginPath();
    context.arc((point.x + 0.5) * width / photo.width, (point.y + 0.5) * height / photo.height, 5.5, 0, 2 * Math.PI);
    context.fillStyle = colour;
    context.strokeStyle = "white";
    context.lineWidth = 2;
    context.fill();
    context.stroke();
  }

  const RED = "#e2231a", BLUE = "#1c62b9";
  const cards = [];
  const rounded = (value) => (Number.isNaN(value) ? "undefined" : value.toFixed(data.decimals));

  function addCard(name, model) {
    const article = document.createElement("article");
    const heading = document.createElement("h2");
    for (const part of name.split(/(?<=[/_@,:.-])/)) heading.append(part, document.createElement("wbr"));
    article.append(heading);
    const card = { model, article, heading, rows: [] };
    for (const place of model === null ? [0] : [0, 1]) {
      const canvas = document.createElement("canvas");
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", model === null ? "The image; arrow keys move the point" : `Affinity map of ${name}, point ${"AB"[place]}`);
      const line = document.createElement("p");
      const range = document.createElement("span"), output = document.createElement("output");
      range.className = "range";
      output.className = "value";
      line.append(output, range);
      article.append(canvas, line);
      listen(canvas, model === null ? null : place);
      card.rows.push({ canvas, line, range, output, map: null });
    }
    byId("cards").append(article);
    cards.push(card);
  }

  function draw() {
    const start = performance.now();
    const [width, height] = viewSize();
    const shown = state.compare ? [0, 1] : [0];
    const ranges = [];
    for (const card of cards) {
      if (card.model === null) continue;
      const chosen = !state.hidden.has(card.model);
      card.article.hidden = !chosen;
      const f = features(state.photo, card.model);
      card.rows.forEach((row, place) => {
        const visible = chosen && shown.includes(place);
        row.canvas.hidden = row.line.hidden = !visible;
        row.map = visible ? affinity(f, state.points[place]) : null;
        row.pixels = visible ? pixelsOf(f, row.map, width, height) : null;
        row.limits = visible ? limitsOf(row.pixels) : null;
        if (row.limits) ranges.push(row.limits);
      });
    }
    if (!ranges.length) ranges.push([0, 1]);
    const fixed = [Number(byId("low").value), Number(byId("high").value)];
    const wrong = !(fixed[0] < fixed[1]);
    for (const name of ["low", "high"]) byId(name).setCustomValidity(wrong ? "the range must go up" : "");
    byId("range-error").hidden = state.range !== "fixed" || !wrong;
    const common = state.range === "fixed" && !wrong
      ? fixed
      : [Math.min(...ranges.map((one) => one[0])), Math.max(...ranges.map((one) => one[1]))];
    for (const card of cards) {
      card.rows.forEach((row, place) => {
        if (card.model === null) {
          paint(row.canvas, null, null, shown.map((one) => [state.points[one], one ? BLUE : RED]));
        } else if (row.map) {
          paint(row.canvas, row.pixels, state.range === "own" ? row.limits ?? [0, 1] : common, [[state.points[place], place ? BLUE : RED]]);
          const own = row.limits ? `${row.limits[0].toFixed(2)} to ${row.limits[1].toFixed(2)}` : "undefined";
          row.range.textContent = (state.compare ? "AB"[place] + ": " : "") + own;
        }
      });
    }
    byId("bar-low").textContent = state.range === "own" ? "lowest" : common[0].toFixed(2);
    byId("bar-high").textContent = state.range === "own" ? "highest of each panel" : common[1].toFixed(2);
    read();
    keepLink();
    byId("cards").dataset.answeredMs = (performance.now() - start).toFixed(2);
  }

  function read() {
    for (const card of cards) {
      for (const row of card.rows) {
        if (card.model === null) {
          row.output.textContent = state.hover ? `pointer: ${state.hover.x}, ${state.hover.y}${under(state.hover)}` : "";
        } else if (row.map) {
          row.output.textContent = state.hover ? rounded(valueAt(features(state.photo, card.model), row.map, state.hover)) : "";
        }
      }
    }
    const status = byId("status");
    status.replaceChildren();
    for (const place of state.compare ? [0, 1] : [0]) {
      const point = state.points[place], name = document.createElement("b");
      name.textContent = state.compare ? `point ${"AB"[place]}` : "point";
      if (place) name.className = "other";
      status.append(name, ` ${point.x}, ${point.y}${under(point)}${state.compare && state.active === place ? " (moves)" : ""}   `);
    }
  }

  // The smallest object that holds a point, as words.
  function under(point) {
    const photo = data.photos[state.photo];
    outline(state.photo);
    let best = null;
    for (const object of photo.objects) {
      const [height, width] = object.size;
      const x = Math.floor((point.x + 0.5) * width / photo.width), y = Math.floor((point.y + 0.5) * height / photo.height);
      if (!object.bits[y * width + x]) continue;
      object.area ??= object.bits.reduce((sum, bit) => sum + bit, 0);
      if (!best || object.area < best.area) best = object;
    }
    return best ? ` (${best.category})` : "";
  }

  // ---- mouse, finger, keys --------------------------------------------------------------------------------------------
  function pointOf(canvas, event) {
    const box = canvas.getBoundingClientRect(), photo = data.photos[state.photo];
    return {
      x: clamp(Math.floor((event.clientX - box.left) / box.width * photo.width), 0, photo.width - 1),
      y: clamp(Math.floor((event.clientY - box.top) / box.height * photo.height), 0, photo.height - 1),
    };
  }

  let waiting = false;
  function drawSoon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }

  function nearest(point) {
    const away = state.points.map((one) => Math.hypot(one.x - point.x, one.y - point.y));
    return away[1] < away[0] ? 1 : 0;
  }

  function listen(canvas, place) {
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      const point = pointOf(canvas, event);
      if (event.shiftKey && !state.compare) setCompare(true, point);
      state.active = event.shiftKey ? 1 : state.compare ? place ?? nearest(point) : 0;
      state.points[state.active] = state.hover = point;
      canvas.setPointerCapture(event.pointerId);
      draw();
    });
    canvas.addEventListener("pointermove", (event) => {
      state.hover = pointOf(canvas, event);
      if (canvas.hasPointerCapture(event.pointerId)) {
        state.points[state.active] = state.hover;
        drawSoon();
      } else {
        read();
      }
    });
    canvas.addEventListener("pointerleave", () => { state.hover = null; read(); });
  }

  function setCompare(on, second) {
    state.compare = byId("compare").checked = on;
    if (!on) state.active = 0;
    if (on && second) state.points[1] = second;
  }

  function setPhoto(number, points = []) {
    state.photo = (number + data.photos.length) % data.photos.length;
    const photo = data.photos[state.photo];
    state.points = photo.start.map(([x, y], place) => points[place] ?? { x, y });
    state.hover = null;
    document.querySelectorAll("#photos button").forEach((button, place) => button.setAttribute("aria-pressed", String(place === state.photo)));
    byId("masks-label").hidden = !photo.objects.length;
    cards[0].heading.textContent = photo.name;
    const widest = photo.width > photo.height ? 320 : 240;
    byId("cards").style.setProperty("--card-width", `${widest}px`);
    if (pictures[state.photo].complete) draw(); else pictures[state.photo].addEventListener("load", draw, { once: true });
  }

  function setRange(value) {
    state.range = byId("range").value = value;
    byId("limits").hidden = value !== "fixed";
    draw();
  }

  function setOpacity(value) {
    state.opacity = clamp(value, 0, 1);
    byId("opacity").value = Math.round(state.opacity * 100);
    draw();
  }

  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const photo = data.photos[state.photo];
    if (event.key in MOVES) {
      const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(photo.width, photo.height) / 56));
      const [dx, dy] = MOVES[event.key], point = state.points[state.active];
      state.points[state.active] = { x: clamp(point.x + dx * step, 0, photo.width - 1), y: clamp(point.y + dy * step, 0, photo.height - 1) };
      draw();
    } else if (event.key === "c") { setCompare(!state.compare); draw();
    } else if (event.key === "x" && state.compare) { state.active = 1 - state.active; draw();
    } else if (event.key === "[") { setPhoto(state.photo - 1);
    } else if (event.key === "]") { setPhoto(state.photo + 1);
    } else if (event.key === "s") { save();
    } else if (event.key === "m") { byId("masks").checked = state.masks = !state.masks; draw();
    } else if (event.key === "-") { setOpacity(state.opacity - 0.1);
    } else if (event.key === "+" || event.key === "=") { setOpacity(state.opacity + 0.1);
    } else if (event.key === "r") { setRange({ shared: "own", own: "fixed", fixed: "shared" }[state.range]);
    } else { return; }
    event.preventDefault();
  });

  byId("opacity").addEventListener("input", (event) => setOpacity(event.target.value / 100));
  byId("range").addEventListener("change", (event) => setRange(event.target.value));
  byId("low").addEventListener("change", draw);
  byId("high").addEventListener("change", draw);
  byId("masks").addEventListener("change", (event) => { state.masks = event.target.checked; draw(); });
  byId("compare").addEventListener("change", (event) => { setCompare(event.target.checked); draw(); });
  byId("help").addEventListener("click", () => {
    byId("keys").hidden = !byId("keys").hidden;
    byId("help").setAttribute("aria-expanded", String(!byId("keys").hidden));
  });
  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // ---- what the address holds, and a picture of what is shown ---------------------------------------------------------
  function linkOf() {
    const at = (point) => `${point.x},${point.y}`;
    const parts = { photo: state.photo, a: at(state.points[0]) };
    if (state.compare) Object.assign(parts, { b: at(state.points[1]) });
    if (state.range !== "shared") parts.range = state.range;
    if (state.range === "fixed") Object.assign(parts, { low: byId("low").value, high: byId("high").value });
    if (state.opacity !== 0.75) parts.map = Math.round(100 * state.opacity);
    if (state.masks) parts.masks = 1;
    if (state.hidden.size) parts.hide = [...state.hidden].sort((one, other) => one - other).join(",");
    return "#" + Object.entries(parts).map(([name, value]) => `${name}=${value}`).join("&");
  }

  function keepLink() {
    try { history.replaceState(null, "", linkOf()); } catch { /* A page within a page has no address of its own. */ }
  }

  // Whatever in an address is not what this page has is left at its default.
  function followLink() {
    const told = new URLSearchParams(location.hash.slice(1));
    const number = (name, low, high, usual) => {
      const value = Number(told.get(name) ?? NaN);
      return value >= low && value <= high ? value : usual;
    };
    const photo = data.photos[Math.floor(number("photo", 0, data.photos.length - 1, 0))];
    const point = (name) => {
      const [x, y] = (told.get(name) ?? "").split(",").map(Number);
      return x >= 0 && x < photo.width && y >= 0 && y < photo.height ? { x: Math.floor(x), y: Math.floor(y) } : null;
    };
    const points = [point("a"), point("b")];
    state.opacity = number("map", 0, 100, 75) / 100;
    byId("opacity").value = Math.round(100 * state.opacity);
    state.masks = byId("masks").checked = told.get("masks") === "1";
    byId("low").value = number("low", -1, 1, 0);
    byId("high").value = number("high", -1, 1, 1);
    state.range = byId("range").value = ["own", "fixed"].includes(told.get("range")) ? told.get("range") : "shared";
    byId("limits").hidden = state.range !== "fixed";
    const hidden = (told.get("hide") ?? "").split(",").filter((part) => part !== "").map(Number);
    state.hidden = new Set(hidden.filter((model) => Number.isInteger(model) && model >= 0 && model < data.models.length));
    if (state.hidden.size === data.models.length) state.hidden.clear();
    document.querySelectorAll("#models input").forEach((box, model) => { box.checked = !state.hidden.has(model); });
    setCompare(points[1] !== null);
    setPhoto(data.photos.indexOf(photo), points);
  }

  function save() {
    const [width, height] = viewSize(), HEAD = 26, GAP = 8;
    const columns = cards.filter((card) => card.model === null || !state.hidden.has(card.model));
    const rows = state.compare ? 2 : 1;
    const sheet = document.createElement("canvas");
    sheet.width = columns.length * (width + GAP) - GAP;
    sheet.height = HEAD + rows * (height + GAP) - GAP;
    const context = sheet.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, sheet.width, sheet.height);
    context.fillStyle = "black";
    context.textBaseline = "middle";
    columns.forEach((card, column) => {
      const words = card.heading.textContent;
      context.font = `${Math.min(16, Math.max(7, 1.7 * width / Math.max(1, words.length)))}px sans-serif`;
      context.fillText(words, column * (width + GAP), HEAD / 2, width);
      card.rows.slice(0, rows).forEach((row, place) => {
        context.drawImage(row.canvas, column * (width + GAP), HEAD + place * (height + GAP), width, height);
      });
    });
    const link = document.createElement("a");
    link.download = `affinity-${data.photos[state.photo].name.replace(/[^\w-]+/g, "-")}.png`;
    link.href = sheet.toDataURL("image/png");
    link.click();
  }
  byId("save").addEventListener("click", save);
  addEventListener("hashchange", followLink);

  // ---- start ----------------------------------------------------------------------------------------------------------
  data.photos.forEach((photo, number) => {
    const button = document.createElement("button"), image = document.createElement("img");
    button.type = "button";
    button.title = photo.name;
    image.src = photo.jpeg;
    image.alt = photo.name;
    button.append(image);
    button.addEventListener("click", () => setPhoto(number));
    byId("photos").append(button);
  });
  byId("photos").hidden = data.photos.length < 2;
  addCard("image", null);
  data.models.forEach((name, model) => addCard(name, model));
  const bar = byId("bar").getContext("2d");
  for (let i = 0; i < 256; i++) {
    bar.fillStyle = `rgb(${data.colours.slice(3 * i, 3 * i + 3).join(",")})`;
    bar.fillRect(i, 0, 1, 10);
  }
  byId("error").textContent = data.error;
  for (const line of data.made) {
    const item = document.createElement("li");
    item.textContent = line;
    byId("made").append(item);
  }
  data.models.forEach((name, model) => {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => {
      if (box.checked) state.hidden.delete(model); else state.hidden.add(model);
      if (state.hidden.size === data.models.length) { state.hidden.delete(model); box.checked = true; }
      draw();
    });
    label.append(box, name);
    byId("models").append(label);
  });
  byId("models").hidden = data.models.length < 2;
  followLink();
  // A browser compiles what has run a few times; the first click need not wait for that.
  setTimeout(() => { for (let times = 0; times < 4; times++) draw(); }, 100);
})();
