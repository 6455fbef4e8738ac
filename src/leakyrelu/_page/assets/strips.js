// Strips of marks on one canvas: thousands of them stay smooth, and each can be pointed at or walked to by keyboard.
window.drawStrips = function (figure, plot, readout, data, page, dark, narrow) {
  "use strict";
  const total = data.rows.reduce((sum, row) => sum + row.unit.length, 0);
  const canvas = document.createElement("canvas");
  const cursor = document.createElement("div");
  const tip = document.createElement("div");
  const legend = document.createElement("ul");
  const holder = document.createElement("div");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${total} units in ${data.rows.length} layers`);
  cursor.className = "cursor";
  tip.className = "tip";
  legend.className = "legend";
  holder.className = "strips";
  cursor.hidden = tip.hidden = true;
  holder.append(canvas, cursor, tip);
  plot.replaceChildren(legend, holder);
  figure.dataset.marks = total;

  let at = null; // {row, place}
  let left = 0; // where the strips begin
  let step = 0; // from one strip to the next
  let top = 0; // of a strip within its step
  let thick = 0;
  let span = 0; // width of the strips

  const colors = () => (dark.matches ? page.themes.dark : page.themes.light).range.diverging;

  function draw() {
    const width = Math.floor(plot.clientWidth);
    if (width === 0) return;
    const phone = width < narrow;
    const style = getComputedStyle(document.body);
    const pen = canvas.getContext("2d");
    const font = `12px ${style.fontFamily}`;
    pen.font = font;
    const longest = Math.max(...data.rows.map((row) => pen.measureText(row.name).width));
    left = phone ? 0 : Math.ceil(Math.min(longest, width * 0.3)) + 10;
    thick = data.rows.length <= 12 ? 20 : 14;
    top = phone ? 18 : 2;
    step = thick + top + 4;
    span = width - left - 1;
    const height = step * data.rows.length + 2;
    const sharp = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * sharp);
    canvas.height = Math.round(height * sharp);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    pen.scale(sharp, sharp);
    pen.font = font;
    pen.textBaseline = "middle";
    const fills = colors();
    data.rows.forEach((row, number) => {
      const y = number * step;
      pen.fillStyle = style.color;
      pen.fillText(shortened(pen, row.name, phone ? width : left - 10), 0, phone ? y + 9 : y + top + thick / 2);
      const each = span / row.unit.length;
      const gap = each > 4 ? 1 : 0;
      // Neighbors of one color are one rectangle where they stand without a gap.
      for (let i = 0; i < row.unit.length; ) {
        let j = i + 1;
        while (!gap && j < row.unit.length && row.bin[j] === row.bin[i]) j++;
        pen.fillStyle = fills[row.bin[i]];
        pen.fillRect(left + i * each, y + top, (j - i) * each - gap, thick);
        i = j;
      }
    });
    legend.replaceChildren(
      ...data.bins.map((name, i) => {
        const item = document.createElement("li");
        const swatch = document.createElement("span");
        swatch.style.background = fills[i];
        item.append(swatch, name);
        return item;
      }),
    );
    show(at);
    figure.dataset.drawn = "true";
  }

  // Names lose their middle; of a path the end says the most.
  function shortened(pen, text, width) {
    if (pen.measureText(text).width <= width) return text;
    const all = Array.from(text); // characters, of which some are two words long
    for (let kept = all.length - 1; kept > 0; kept--) {
      const head = Math.floor(kept / 3);
      const short = [...all.slice(0, head), "…", ...all.slice(all.length - (kept - head))].join("");
      if (pen.measureText(short).width <= width) return short;
    }
    return "…";
  }

  function words({ row, place }) {
    const { name, unit, share, mean, std } = data.rows[row];
    return `${name}, unit ${unit[place]}: positive ${share[place]}, output mean ${mean[place]}, std ${std[place]}`;
  }

  function show(mark) {
    at = mark;
    cursor.hidden = mark === null;
    if (mark === null) return;
    const each = span / data.rows[mark.row].unit.length;
    const wide = Math.max(each, 3);
    cursor.style.left = `${left + (mark.place + 0.5) * each - wide / 2}px`;
    cursor.style.top = `${mark.row * step + top}px`;
    cursor.style.width = `${wide}px`;
    cursor.style.height = `${thick}px`;
  }

  function under(event) {
    const box = canvas.getBoundingClientRect();
    const x = event.clientX - box.left - left;
    const row = Math.floor((event.clientY - box.top) / step);
    if (x < 0 || x >= span || row < 0 || row >= data.rows.length) return null;
    const units = data.rows[row].unit.length;
    return { row, place: Math.min(Math.floor((x / span) * units), units - 1) };
  }

  canvas.addEventListener("pointermove", (event) => {
    const mark = under(event);
    show(mark);
    tip.hidden = mark === null;
    if (mark === null) return;
    tip.textContent = words(mark);
    const box = holder.getBoundingClientRect();
    const x = Math.min(event.clientX - box.left + 12, box.width - tip.offsetWidth - 2);
    tip.style.left = `${Math.max(x, 0)}px`;
    tip.style.top = `${event.clientY - box.top + 16}px`;
  });
  canvas.addEventListener("pointerleave", () => {
    tip.hidden = true;
    show(null);
  });

  plot.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const rows = data.rows;
    const { row, place } = at || { row: 0, place: -1 };
    const end = rows[row].unit.length - 1;
    const across = (next) => ({ row: next, place: Math.min(Math.max(place, 0), rows[next].unit.length - 1) });
    const moves = {
      ArrowRight: () => (place < end ? { row, place: place + 1 } : row + 1 < rows.length ? { row: row + 1, place: 0 } : at),
      ArrowLeft: () =>
        place > 0 ? { row, place: place - 1 } : row > 0 ? { row: row - 1, place: rows[row - 1].unit.length - 1 } : { row, place: 0 },
      ArrowDown: () => across(at ? Math.min(row + 1, rows.length - 1) : 0),
      ArrowUp: () => across(Math.max(row - 1, 0)),
      Home: () => ({ row, place: 0 }),
      End: () => ({ row, place: end }),
      Escape: () => null,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    tip.hidden = true;
    show(moves[event.key]());
    readout.textContent = at === null ? "" : `${words(at)} (${at.place + 1} of ${rows[at.row].unit.length})`;
  });
  plot.addEventListener("blur", () => {
    show(null);
    readout.textContent = "";
  });

  let drawnWidth = 0;
  new ResizeObserver(() => {
    const width = Math.floor(plot.clientWidth);
    if (width === drawnWidth) return;
    drawnWidth = width;
    draw();
  }).observe(plot);
  dark.addEventListener("change", draw);
};
