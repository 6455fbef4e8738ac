(() => {
  "use strict";
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const NARROW = 560;

  const composed = (spec) => ["hconcat", "vconcat", "concat", "repeat", "facet"].some((key) => key in spec);
  const faceted = (spec) => ["row", "column", "facet"].some((key) => key in (spec.encoding || {}));

  // Vega-Lite fits axes and legends into a given width for single views and layers only. In other views a width can be
  // given to the inner view alone: the space around it is measured after a first drawing, and taken off for a second.
  const measured = (spec) => composed(spec) || faceted(spec);

  function fit(original, width, around) {
    const spec = structuredClone(original);
    delete spec.title; // the page has it as a heading
    const space = Math.max(width - around, 80);
    if (!measured(spec)) {
      spec.width = width;
      spec.autosize = { type: "fit-x", contains: "padding" };
    } else if (spec.vconcat) {
      for (const child of spec.vconcat) if (!composed(child)) child.width = space;
    } else if (spec.facet && spec.facet.row && spec.spec) {
      spec.spec.width = space;
    } else if (!composed(spec) && spec.encoding.row && !spec.encoding.column) {
      spec.width = space;
    }
    return spec;
  }

  function theme(spec, width) {
    const config = structuredClone(dark.matches ? page.themes.dark : page.themes.light);
    const phone = measured(spec) ? 1 : 2; // there the legend is beside the inner view, which is narrower still
    config.legend.orient = width < NARROW ? "bottom" : "top";
    config.legend.columns = width < 420 ? phone : width < 800 ? 3 : 4;
    if (width < NARROW) config.axis.labelLimit = 150;
    return config;
  }

  // Vega-Lite warns at every fitted width beside a stepped height, which is intended here; the bundle offers no
  // logger of its own to turn this off. Other warnings are kept.
  const warn = console.warn;
  console.warn = (...words) => /Dropping "fit-[xy]"/.test(words.join(" ")) || warn.apply(console, words);

  // Walk the marks by keyboard: Vega gives each one in the SVG a role and its values as a label.
  function walk(figure, plot, readout) {
    const guides = ["axis", "legend", "title", "header"];
    const marks = () =>
      [...plot.querySelectorAll('[role="graphics-symbol"][aria-label]')].filter(
        (mark) => !guides.includes(mark.getAttribute("aria-roledescription")),
      );
    let at = -1;
    const choose = (index) => {
      const all = marks();
      plot.querySelectorAll(".chosen").forEach((mark) => mark.classList.remove("chosen"));
      at = all.length ? Math.min(Math.max(index, -1), all.length - 1) : -1;
      if (at >= 0) all[at].classList.add("chosen");
      readout.textContent = at < 0 ? "" : `${all[at].getAttribute("aria-label")} (${at + 1} of ${all.length})`;
    };
    plot.addEventListener("keydown", (event) => {
      const moves = { ArrowRight: at + 1, ArrowLeft: Math.max(at - 1, 0), Home: 0, End: Infinity, Escape: -1 };
      if (event.altKey || event.ctrlKey || event.metaKey || !(event.key in moves) || !marks().length) return;
      event.preventDefault();
      choose(moves[event.key]);
    });
    plot.addEventListener("blur", () => choose(-1));
    return () => choose(-1);
  }

  function chart(figure) {
    const plot = figure.querySelector(".plot");
    const readout = figure.querySelector(".readout");
    const spec = page.specs[figure.dataset.chart];
    if (spec.strips) return window.drawStrips(figure, plot, readout, spec.strips, page, dark, NARROW);
    const forget = walk(figure, plot, readout);
    let drawing = 0;
    let shown = null;
    let drawnWidth = 0;

    async function draw() {
      const mine = ++drawing;
      const width = Math.floor(plot.clientWidth);
      if (width === 0) return;
      drawnWidth = width;
      figure.dataset.drawn = "false";
      const holder = document.createElement("div");
      try {
        const embed = (around) =>
          window.vegaEmbed(holder, fit(spec, width, around), {
            actions: false,
            config: theme(spec, width),
            renderer: "svg",
            tooltip: { theme: dark.matches ? "dark" : "light" },
          });
        let result = await embed(0);
        if (measured(spec)) {
          const slack = 8; // the last tick label may reach out differently the second time
          const around = holder.querySelector("svg").width.baseVal.value - width + slack;
          result.finalize();
          result = await embed(around);
        }
        if (mine !== drawing) return result.finalize();
        forget();
        plot.replaceChildren(holder);
        if (shown) shown.finalize();
        shown = result;
        figure.dataset.drawn = "true";
      } catch (error) {
        if (mine !== drawing) return;
        figure.dataset.drawn = "failed";
        readout.textContent = `This chart could not be drawn: ${error.message}`;
        readout.classList.add("problem");
        console.error(error);
      }
    }

    let waiting = 0;
    new ResizeObserver(() => {
      if (Math.floor(plot.clientWidth) === drawnWidth) return;
      clearTimeout(waiting);
      waiting = setTimeout(draw, drawnWidth ? 120 : 0);
    }).observe(plot);
    dark.addEventListener("change", draw);
  }

  document.querySelectorAll("figure[data-chart]").forEach(chart);
})();
