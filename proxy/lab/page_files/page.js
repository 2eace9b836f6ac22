// Draws each picture of the page with Plot, from the report that is in it, at the width there is.
"use strict";
const report = JSON.parse(document.getElementById("report").textContent);
const titles = new Map(report.stacks.map((stack) => [stack.key, stack.title]));
const colour = (stack) => `var(--stack-${stack}, var(--other))`;
const ERROR = "var(--error)";
const WAIT = "var(--wait)";
// Words on colours, to be read on each of them.
const HALO = { fill: "var(--ink)", stroke: "var(--paper)", strokeWidth: 3 };

function number(value) {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

// What all pictures share: a row for each stack, its title above what is drawn; also for one that
// failed and has nothing to draw.
function rows(box, experiment, data, options, marks) {
  const drawn = new Set(data.map((one) => one.stack));
  const failed = new Map(experiment.results
    .filter((one) => one.outcome === "failed" && !drawn.has(one.stack))
    .map((one) => [one.stack, one.reason.split(":")[0]]));
  const stacks = experiment.results.map((one) => one.stack).filter((one) => drawn.has(one) || failed.has(one));
  return Plot.plot({
    width: Math.max(box.clientWidth, 240),
    height: stacks.length * options.row + (options.x.axis === null ? 16 : 52),
    marginTop: 8, marginLeft: options.x.axis === null ? 4 : 12, marginBottom: options.x.axis === null ? 8 : 44, marginRight: options.marginRight ?? 12,
    style: { fontFamily: "inherit", fontSize: "13px" },
    color: { type: "identity" },
    x: options.x,
    y: options.y,
    fy: { domain: stacks, axis: null, padding: 0 },
    marks: [
      ...marks,
      Plot.text(stacks, {
        fy: (stack) => stack, text: (stack) => titles.get(stack),
        frameAnchor: "top-left", dy: 1, fill: "currentColor",
      }),
      Plot.text([...failed.keys()], {
        fy: (stack) => stack, text: (stack) => `failed: ${failed.get(stack)}`,
        frameAnchor: "top-left", dy: 21, fill: ERROR, fontWeight: 600,
      }),
    ],
  });
}

function bars(box, experiment, metric) {
  const data = experiment.results
    .filter((result) => result.figures[metric.key])
    .map((result) => ({ stack: result.stack, ...result.figures[metric.key] }));
  const most = Math.max(...data.map((one) => one.most)) || 1;
  return rows(box, experiment, data, { row: 46, marginRight: 74, x: { axis: null, domain: [0, most] }, y: { axis: null } }, [
    Plot.barX(data, { fy: "stack", x: "median", fill: (one) => colour(one.stack), insetTop: 17, insetBottom: 11 }),
    Plot.link(data, { fy: "stack", x1: "least", x2: "most", y1: 0, y2: 0, dy: 3, strokeWidth: 1.5 }),
    Plot.text(data, {
      fy: "stack", x: "most", text: (one) => number(one.median), frameAnchor: "left",
      textAnchor: "start", dx: 8, dy: 3, fontWeight: 600,
    }),
  ]);
}

function distribution(box, experiment) {
  const found = experiment.results.filter((result) => result.distribution);
  const data = found.flatMap((result) => result.distribution.samples.map((ms) => ({ stack: result.stack, ms })));
  const at = (result, part) => result.distribution.percentiles.find(([one]) => one === part)?.[1];
  const named = found.flatMap((result) => [50, 99].map((part) => ({ stack: result.stack, part, ms: at(result, part) })))
    .filter((one) => one.ms !== undefined);
  const axis = { type: "log", label: "milliseconds →", labelOffset: 38, insetLeft: 70, grid: true, ticks: box.clientWidth < 480 ? 4 : 7, tickFormat: ",~r" };
  return rows(box, experiment, data, { row: 82, marginRight: 64, x: axis, y: { axis: null } }, [
    Plot.tickX(data, { fy: "stack", x: "ms", stroke: (one) => colour(one.stack), strokeOpacity: 0.5, insetTop: 22, insetBottom: 28 }),
    Plot.tickX(named, { fy: "stack", x: "ms", stroke: "currentColor", strokeWidth: 2, insetTop: 20, insetBottom: 24 }),
    ...[[50, "median", "end"], [99, "p99", "start"]].map(([part, name, textAnchor]) =>
      Plot.text(named.filter((one) => one.part === part), {
        fy: "stack", x: "ms", text: (one) => `${name} ${number(one.ms)}`, frameAnchor: "bottom",
        dy: -9, dx: part === 50 ? -3 : 3, fontSize: 11, textAnchor, fill: "currentColor",
        stroke: "var(--paper)", strokeWidth: 4,
      })),
  ]);
}

function timeline(box, experiment) {
  const found = experiment.results.filter((result) => result.timeline);
  const data = found.flatMap((result) => result.timeline.moments.map((moment) => ({
    stack: result.stack, ...moment, end_s: moment.at_s + result.timeline.step_s,
  })));
  const marks = found.flatMap((result) => result.timeline.marks.map((mark) => ({ stack: result.stack, ...mark })));
  const top = Math.max(...data.map((one) => one.worst_ms)) || 1;
  const options = { row: 82, x: { label: "seconds →", labelOffset: 38 }, y: { type: "sqrt", axis: null, domain: [0, top * 2.2] } };
  return rows(box, experiment, data, options, [
    Plot.rect(data.filter((one) => one.good), {
      fy: "stack", x1: "at_s", x2: "end_s", y1: 0, y2: "worst_ms", fill: (one) => colour(one.stack), inset: 0.3,
    }),
    Plot.rect(data.filter((one) => one.errors), {
      fy: "stack", x1: "at_s", x2: "end_s", y1: 0, y2: top, fill: ERROR, inset: 0.3,
    }),
    Plot.ruleX(marks, { fy: "stack", x: "at_s", strokeDasharray: "2,3", insetTop: 16, strokeOpacity: 0.7, title: "text" }),
    Plot.ruleY([0], { stroke: "var(--line)" }),
  ]);
}

function outcomes(box, experiment) {
  const shade = (one) => (one.name === "good" ? colour(one.stack) : one.name === "503" ? WAIT : ERROR);
  const data = experiment.results.flatMap((result) => {
    const all = Object.values(result.answers).reduce((sum, count) => sum + count, 0);
    let from = 0;
    return Object.entries(result.answers).sort(([one]) => (one === "good" ? -1 : 1)).map(([name, count]) => {
      const part = { stack: result.stack, name, from, to: from + (100 * count) / all };
      from = part.to;
      return part;
    });
  });
  const room = (one) => ((one.to - one.from) / 100) * box.clientWidth > (`${one.name} 00 %`.length + 1) * 8;
  return rows(box, experiment, data, { row: 52, x: { axis: null, domain: [0, 100] }, y: { axis: null } }, [
    Plot.barX(data, { fy: "stack", x1: "from", x2: "to", fill: shade, insetTop: 17, insetBottom: 9, insetRight: 1 }),
    Plot.text(data.filter(room), {
      fy: "stack", x: "from", text: (one) => `${one.name} ${number(one.to - one.from)} %`, frameAnchor: "left",
      textAnchor: "start", dx: 6, dy: 4, fontSize: 12, ...HALO,
    }),
  ]);
}

function journey(box, experiment) {
  const found = experiment.results.filter((result) => result.journey.length);
  const data = found.flatMap((result) => result.journey.map((part) => ({
    stack: result.stack, ...part, end_ms: part.start_ms + part.duration_ms,
  })));
  const ends = found.map((result) => ({ stack: result.stack, ms: result.journey.at(-1).start_ms + result.journey.at(-1).duration_ms }));
  const most = Math.max(...ends.map((one) => one.ms)) || 1;
  const room = (one) => (one.duration_ms / most) * (box.clientWidth - 70) > (one.name.length + 1) * 7.5;
  return rows(box, experiment, data, { row: 50, marginRight: 66, x: { axis: null, domain: [0, most] }, y: { axis: null } }, [
    Plot.barX(data, {
      fy: "stack", x1: "start_ms", x2: "end_ms", fill: (one) => `var(--part-${one.name.replaceAll(" ", "-")})`,
      insetTop: 17, insetBottom: 9, title: (one) => `${one.name} (${one.layer}): ${number(one.duration_ms)} ms`,
    }),
    Plot.text(data.filter(room), {
      fy: "stack", x: "start_ms", text: "name", frameAnchor: "left", textAnchor: "start", dx: 5, dy: 4,
      fontSize: 12, ...HALO,
    }),
    Plot.text(ends, {
      fy: "stack", x: "ms", text: (one) => number(one.ms), frameAnchor: "left", textAnchor: "start", dx: 6, dy: 4,
      fill: "currentColor", fontWeight: 600,
    }),
  ]);
}

const DRAW = { bars, distribution, timeline, outcomes, journey };

function drawAll() {
  for (const box of document.querySelectorAll(".picture")) {
    const experiment = report.experiments.find((one) => one.key === box.dataset.experiment);
    const metric = experiment.metrics.find((one) => one.key === box.dataset.metric);
    box.replaceChildren(DRAW[box.dataset.picture](box, experiment, metric));
  }
}

let width = 0;
new ResizeObserver(() => {
  if (width === (width = document.documentElement.clientWidth)) return;
  drawAll();
}).observe(document.documentElement);
