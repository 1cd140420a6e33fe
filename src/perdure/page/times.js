// Times as people read them: how long ago, in the viewer's zone, with the exact instant on hover; and durations.

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" })
const short = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" })

/** A duration in ms: "340 ms", "2.5 s", "3 m 20 s", "2 d 4 h". */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return ""
  if (ms < 1000) return `${Math.round(ms)} ms`
  const s = ms / 1000
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`
  const units = [[86400, "d", 3600, "h"], [3600, "h", 60, "m"], [60, "m", 1, "s"]]
  const [size, name, smaller, rest] = units.find(([size]) => s >= size)
  const left = Math.floor((s % size) / smaller)
  return `${Math.floor(s / size)} ${name}${left ? ` ${left} ${rest}` : ""}`
}

/** How far a moment is from now: "12 s ago", "in 3 h". */
export function distance(at, now = Date.now()) {
  const ms = now - at
  if (Math.abs(ms) < 1000) return "now"
  if (Math.abs(ms) > 6 * 86400e3) return short.format(at)
  const text = duration(Math.floor(Math.abs(ms) / 1000) * 1000).replace(/\.0 s$/, " s")
  return ms > 0 ? `${text} ago` : `in ${text}`
}

const shown = new Set()

/**
 * `<p-time datetime="2026-11-23T08:00:00.000Z">`: how far away that is, or, with `running`, how long since then. It
 * keeps itself up to date as long as it is in the page.
 */
class Time extends HTMLElement {
  static observedAttributes = ["datetime"]
  connectedCallback() {
    shown.add(this)
    this.draw()
  }
  disconnectedCallback() {
    shown.delete(this)
  }
  attributeChangedCallback() {
    this.draw()
  }
  draw() {
    const at = Date.parse(this.getAttribute("datetime"))
    if (Number.isNaN(at)) return
    const text = this.hasAttribute("running") ? duration(Math.max(0, Date.now() - at)) : distance(at)
    if (this.textContent !== text) this.textContent = text
    const title = `${exact.format(at)} · ${new Date(at).toISOString()}`
    if (this.title !== title) this.title = title
  }
}
customElements.define("p-time", Time)
setInterval(() => document.hidden || shown.forEach((each) => each.draw()), 5000)

/** The element for a time, nothing for none; with `running` for how long something has lasted. */
export function time(at, running = false) {
  if (!at) return null
  const made = document.createElement("p-time")
  if (running) made.setAttribute("running", "")
  made.setAttribute("datetime", at)
  return made
}
