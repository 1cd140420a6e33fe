// Small charts of what happened over time: runs by status as bars, delay and duration as lines, and the same as a table.

import { h, svg } from "./dom.js"
import { word } from "./shapes.js"
import { duration, time } from "./times.js"

const WIDTH = 600
const HEIGHT = 120
const ORDER = ["COMPLETED", "FAILED", "RUNNING", "QUEUED", "CANCELLED", "SKIPPED"]

/** Runs by status, and how long they waited and took, of an answer of `.../activity`. */
export function activityChart({ from, widthMs, buckets }) {
  if (!buckets.length) return h("p.dim", null, "No run was queued in this time.")
  const begin = Date.parse(from)
  const spans = new Map()
  for (const each of buckets) {
    const at = Math.floor((Date.parse(each.at) - begin) / widthMs)
    spans.set(at, [...(spans.get(at) ?? []), each])
  }
  const count = Math.max(Math.ceil((Date.now() - begin) / widthMs), ...spans.keys()) + 1
  const x = (at) => (at * WIDTH) / count
  const ends = [begin, Math.min(begin + count * widthMs, Date.now())]
  return h("div.grid", null, counts(spans, count, x, widthMs, ends), times(spans, count, x, ends), totals(buckets))
}

function frame(title, ends, ...children) {
  return h("figure", null, h("figcaption.dim", null, title), svg("svg", {
    class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title,
  }, ...children), h("div.scale.dim", null, ends.map((at) => time(new Date(at).toISOString()))))
}

function counts(spans, count, x, widthMs, ends) {
  const sum = (each) => each.reduce((all, one) => all + one.count, 0)
  const most = Math.max(1, ...[...spans.values()].map(sum))
  const bars = []
  for (const [at, each] of spans) {
    let y = HEIGHT
    for (const status of ORDER) {
      const found = each.find((one) => one.status === status)
      if (!found) continue
      const height = (found.count / most) * (HEIGHT - 14)
      y -= height
      bars.push(svg("rect", { class: status, x: x(at) + 0.5, y, width: Math.max(1, WIDTH / count - 1), height }))
    }
  }
  return frame(`Runs, each bar ${duration(widthMs)}: at most ${most}`, ends, bars)
}

function times(spans, count, x, ends) {
  const places = [...spans.keys()].sort((a, b) => a - b)
  const value = (at, name) => Math.max(0, ...spans.get(at).map((one) => one[name] ?? 0))
  const most = Math.max(1, ...places.flatMap((at) => ["durationMs", "queueMs"].map((name) => value(at, name))))
  const line = (name) =>
    places.map((at) => `${x(at + 0.5).toFixed(1)},${(HEIGHT - (value(at, name) / most) * (HEIGHT - 14)).toFixed(1)}`).join(" ")
  // A single point is no line.
  const dots = (name, kind) => places.length > 1 ? null : places.map((at) =>
    svg("ellipse", { class: kind, cx: x(at + 0.5), cy: HEIGHT - (value(at, name) / most) * (HEIGHT - 14), rx: 4, ry: 3 }))
  return frame(`Average duration, delay in the queue (dashed): at most ${duration(most)}`, ends,
    dots("durationMs", "dot"), dots("queueMs", "dot high"), svg("polyline", { class: "line", points: line("durationMs") }), svg("polyline", { class: "line high", points: line("queueMs") }))
}

function totals(buckets) {
  const rows = ORDER.map((status) => [status, buckets.filter((each) => each.status === status)]).filter(([, each]) => each.length)
  return h("ul.plain", null, ...rows.map(([status, each]) => {
    const count = each.reduce((all, one) => all + one.count, 0)
    const longest = Math.max(0, ...each.map((one) => one.longestMs ?? 0))
    return h("li", null, `${word(status)}: ${count}`, longest ? `, longest ${duration(longest)}` : "")
  }))
}
