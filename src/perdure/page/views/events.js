// Events: what came in, live, and sending one.

import { get, may, post } from "../api.js"
import { ask } from "../dialog.js"
import { button, empty, failed, h, put, toast, to } from "../dom.js"
import { list } from "../list.js"
import { watch } from "../live.js"
import { time } from "../times.js"

const PAGE = 100
const KEPT = 5000

export async function show(root, { query, signal }) {
  const state = { events: [], more: true, asking: false }
  const name = query.get("name") ?? ""
  const note = h("div", { "aria-live": "polite" })
  const rows = list({ row, key: (event) => event.internal_id, label: "Events", onend: next })
  put(root, 
    h("div.head", null, h("h1", null, "Events"), may() && button("Send an event…", () => sendEvent(), { class: "primary" })),
    filter(name),
    note,
    rows,
  )

  const page = (cursor) => get("v1/events", { limit: PAGE, name, cursor }, signal)

  async function next() {
    if (state.asking || !state.more) return
    state.asking = true
    try {
      const { data } = await page(state.events.at(-1)?.internal_id)
      state.more = data.length === PAGE
      state.events.push(...data)
      draw()
    } catch (error) {
      if (error.name === "AbortError") return
      state.more = false
      put(note, failed(error, () => ((state.more = true), put(note), next())))
    } finally {
      state.asking = false
    }
  }

  async function refresh() {
    // Events never change: only new ones matter, and only where they are seen.
    if (rows.seen[0] > 5) return
    const { data } = await page("")
    const newest = state.events[0]?.internal_id ?? ""
    const fresh = data.filter((event) => event.internal_id > newest)
    if (!fresh.length) return
    // More came than one page holds: the list begins anew, without a gap.
    const gap = fresh.length === PAGE && newest
    state.events = gap ? fresh : [...fresh, ...state.events].slice(0, KEPT)
    if (gap || state.events.length === KEPT) state.more = true
    draw()
  }

  function draw() {
    rows.items = state.events
    rows.hidden = !state.events.length
    put(note, !state.events.length && nothing(name))
  }

  await next()
  watch(refresh, signal)
}

const row = (event) => [
  h("a.name", { href: to("events", event.internal_id), "data-focus": "name" }, event.name),
  h("span.dim.app.mono", null, JSON.stringify(event.data).slice(0, 200)),
  h("span.mono.dim.id", null, event.internal_id),
  h("span.when", null, time(event.received_at)),
]

function filter(name) {
  const field = h("input", { type: "search", name: "name", value: name, placeholder: "shop/order.placed", "data-filter": true })
  const form = h("form.filters", { role: "search", "aria-label": "Filter events" },
    h("label.wide", null, h("span", null, "Name"), field), h("button", { type: "submit" }, "Filter"))
  form.addEventListener("submit", (event) => {
    event.preventDefault()
    location.hash = field.value ? `#/events?${new URLSearchParams({ name: field.value })}` : "#/events"
  })
  return form
}

const nothing = (name) =>
  name
    ? empty(`No event is named ${name}.`, h("a", { href: "#/events" }, "Show all events"))
    : empty("No event has come yet.", h("p", null, "Send one here, or from your code: POST /e/{key}."))

/** The dialog that sends an event: as a form, or, with `whole`, as JSON. */
export async function sendEvent(event = { name: "", data: {} }) {
  const done = await ask({
    title: "Send an event",
    text: "It starts every function that it triggers, and ends every wait for it.",
    fields: [
      { name: "name", label: "Name", value: event.name },
      { name: "data", label: "Data (a JSON object)", kind: "json", value: event.data },
      { name: "user", label: "User (JSON, may be empty)", kind: "json", value: event.user },
      { name: "id", label: "Id (the same id starts nothing twice within 24 hours)", value: "" },
      { name: "whole", label: "Or the whole event as JSON", kind: "json", value: "" },
    ],
    action: "Send",
    act: ({ whole, name, data, user, id }) => {
      const body = whole ?? { name, data: data ?? {}, ...(user ? { user } : {}), ...(id ? { id } : {}) }
      return post("v2/events", body)
    },
  })
  if (!done) return
  toast("Sent")
  location.hash = to("events", done.answer.data.eventId)
}
