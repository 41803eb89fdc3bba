// Plots over time, by uPlot, in the page's colours.

import { h, text } from "./dom.js";

const STEPS = [1, 2, 5].flatMap((one) => Array.from({ length: 15 }, (_, at) => one * 10 ** at)).sort((a, b) => a - b);

/** A time as its axis shows it: seconds, minutes or days, whichever the axis is of. */
function moment(at, step) {
  const date = new Date(at * 1000);
  if (step >= 86400) return date.toLocaleDateString([], { day: "numeric", month: "short" });
  const time = date.toLocaleTimeString([], { hour12: false, hour: "2-digit", minute: "2-digit", ...(step < 60 && { second: "2-digit" }) });
  return date.getHours() + date.getMinutes() === 0 && step >= 3600 ? date.toLocaleDateString([], { day: "numeric", month: "short" }) : time;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const made = new Set();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => made.forEach((one) => one.draw()));

/** A figure with a plot: `series` are {label, colour, show(value)}; `set` gives it data and a sentence about them. */
export class Chart {
  constructor(title, series, options = {}) {
    this.series = series;
    this.options = options;
    this.data = [[], ...series.map(() => [])];
    this.place = h("div", { class: "plot" });
    this.summary = h("span", { class: "muted" });
    this.element = h("figure", { class: "card" }, h("figcaption", {}, h("strong", {}, title), " ", this.summary), this.place);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.place);
    made.add(this);
  }

  set(data, summary, range = null) {
    this.data = data;
    this.range = range;
    text(this.summary, summary);
    if (this.plot) this.plot.setData(data);
    else this.draw();
  }

  resize() {
    const width = this.place.clientWidth;
    if (this.plot && width) this.plot.setSize({ width, height: this.height() });
    else if (width) this.draw();
  }

  height() {
    return this.place.clientWidth < 420 ? 150 : 180;
  }

  draw() {
    this.plot?.destroy();
    this.plot = null;
    const width = this.place.clientWidth;
    if (!width || !this.data[0].length) return;
    const muted = colour("--muted");
    const grid = { stroke: colour("--line"), width: 1 };
    const axis = { stroke: muted, grid, ticks: { ...grid, size: 4 }, font: "11px system-ui, sans-serif" };
    const bars = this.options.bars && window.uPlot.paths.bars({ size: [0.7, 60] });
    this.plot = new window.uPlot(
      {
        width,
        height: this.height(),
        padding: [8, 8, 0, 0],
        cursor: { y: false, points: { size: 6 } },
        legend: { live: true },
        scales: { x: { time: true, range: (plot, low, high) => this.range ?? [low, high] }, y: { range: (plot, low, high) => [0, high > 0 ? high * 1.15 : this.options.least ?? 1] } },
        axes: [
          { ...axis, space: 70, values: (plot, ticks, at, space, step) => ticks.map((tick) => moment(tick, step)) },
          { ...axis, size: 62, space: 34, ...(this.options.whole && { incrs: STEPS }), values: (plot, ticks) => ticks.map((tick) => this.series[0].show(tick)) },
        ],
        series: [
          { value: (plot, at) => (at === null ? "–" : new Date(at * 1000).toLocaleString([], { hour12: false })) },
          ...this.series.map((one) => ({
            label: one.label,
            stroke: colour(one.colour),
            fill: colour(one.colour) + (bars ? "b0" : "22"),
            width: 1.6,
            points: { show: (plot, at) => plot.data[at].filter((value) => value !== null).length < 30, size: 5 },
            spanGaps: true,
            paths: bars || undefined,
            value: (plot, value) => (value === null || value === undefined ? "–" : one.show(value)),
          })),
        ],
      },
      this.data,
      this.place,
    );
  }

  destroy() {
    this.observer.disconnect();
    this.plot?.destroy();
    made.delete(this);
  }
}
