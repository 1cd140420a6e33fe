// What several views show the same way: states, links to runs and functions, definitions, tables.

import { h, to } from "./dom.js"
import { duration, time } from "./times.js"

export const STATUSES = ["QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "SKIPPED"]
export const ENDED = STATUSES.slice(2)
export const isOver = (status) => ENDED.includes(status)

export const word = (status) => status[0].toUpperCase() + status.slice(1).toLowerCase()

/** A status, as a word with a mark that is of its color. */
export const badge = (status) => h("span.badge", { "data-status": status }, word(status))

export const runLink = (id, text) => h("a.mono", { href: to("runs", id) }, text ?? id)

export const functionLink = (app, id, name) => h("a", { href: to("functions", app, id) }, name ?? id)

/** How long a run or step took, or takes by now. */
export function took(item) {
  if (item.durationMs !== undefined) return duration(Number(item.durationMs))
  if (!item.startedAt || item.endedAt) return ""
  return time(item.startedAt, true)
}

/** Names and values; those without a value are left out. */
export const facts = (pairs) =>
  h(
    "dl.facts",
    null,
    ...pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false)
      .map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
  )

/** A table that scrolls sideways on narrow screens. */
export const table = (label, heads, rows) =>
  h(
    "div.scroll",
    { tabindex: "0", role: "region", "aria-label": label },
    h(
      "table",
      null,
      h("thead", null, h("tr", null, ...heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", null, ...rows.map((cells) => h("tr", null, ...cells.map((cell) => h("td", null, cell))))),
    ),
  )

export const card = (title, ...children) => h("section.card", null, title && h("h2", null, title), ...children)

/** Replaces what a part shows if that has changed, so that nobody loses a selection to an update that says the same. */
export function changed(part, data) {
  const text = JSON.stringify(data)
  if (part.shown === text) return false
  part.shown = text
  return true
}
