// JSON as it can be read: folded where it is long, searchable, copyable. Texts stay texts, whatever is in them.

import { button, copy, h, put } from "./dom.js"

const OPEN = 2 // levels that are open at first
const SHOWN = 100 // members shown at once
const LONG = 400 // characters of a text shown at once

/** `<p-json>` with the property `value`, and perhaps `name`, which says what it is. */
class JsonView extends HTMLElement {
  set value(value) {
    this.data = value
    this.draw("")
  }
  draw(wanted) {
    const text = JSON.stringify(this.data, null, 2) ?? "undefined"
    const big = text.length > 2000
    const tree = h("div.tree", null, node(null, this.data, 0, wanted))
    const search = big && h("input", { type: "search", placeholder: "Find", value: wanted, "aria-label": "Find in the JSON" })
    search && search.addEventListener("input", () => this.find(tree, search.value.trim().toLowerCase()))
    put(this, h("div.bar", null, search, button("Copy", () => copy(text), { class: "quiet" })), tree)
  }
  find(tree, wanted) {
    const found = !wanted || JSON.stringify(this.data).toLowerCase().includes(wanted)
    put(tree, found ? node(null, this.data, 0, wanted) : h("p.dim", { role: "status" }, "Nothing in it has this text."))
  }
}
customElements.define("p-json", JsonView)

/** The element for a value. */
export function jsonView(value) {
  const made = document.createElement("p-json")
  made.value = value
  return made
}

function node(key, value, level, wanted) {
  const label = key === null ? null : h("span", { class: wanted && key.toLowerCase().includes(wanted) ? "key hit" : "key" }, `${key}: `)
  if (value === null || typeof value !== "object") return h("div.leaf", null, label, leaf(value, wanted))
  const all = Object.entries(value)
  // A hit may be beyond the members that are shown at once: only those that lead to one are.
  const found = wanted ? all.filter(([key, each]) => leads(key, each, wanted)) : []
  const hits = all.length > SHOWN ? found : []
  const members = hits.length ? hits : all
  const isList = Array.isArray(value)
  const ends = isList ? "[]" : "{}"
  if (!members.length) return h("div.leaf", null, label, h("span", null, ends))
  const made = h(
    "details",
    { open: found.length > 0 || (!wanted && level < OPEN && members.length <= SHOWN) },
    h("summary", null, label, h("span.dim", null, `${ends[0]} ${hits.length ? `${hits.length} of ` : ""}${all.length} ${isList ? "item" : "field"}${all.length === 1 ? "" : "s"} ${ends[1]}`)),
  )
  const unfold = () => {
    if (made.childElementCount === 1) made.append(some(members, 0, level, wanted))
  }
  if (made.open) unfold()
  made.addEventListener("toggle", unfold, { once: true })
  return made
}

const leads = (key, value, wanted) => key.toLowerCase().includes(wanted) || JSON.stringify(value).toLowerCase().includes(wanted)

function some(members, from, level, wanted) {
  const part = h("div.members", null, ...members.slice(from, from + SHOWN).map(([key, each]) => node(key, each, level + 1, wanted)))
  const left = members.length - from - SHOWN
  if (left > 0) {
    const more = button(`${left} more`, () => more.replaceWith(some(members, from + SHOWN, level, wanted)), { class: "quiet" })
    part.append(more)
  }
  return part
}

function leaf(value, wanted) {
  const text = typeof value === "string" ? value : String(value)
  const made = h("span", { class: `v-${value === null ? "null" : typeof value}` })
  const hit = wanted && text.toLowerCase().includes(wanted)
  if (hit) made.classList.add("hit")
  if (text.length <= LONG || hit) made.textContent = typeof value === "string" ? JSON.stringify(value) : text
  else {
    made.textContent = JSON.stringify(text.slice(0, LONG)).slice(0, -1) + "…"
    const more = button(`${text.length} characters`, () => ((made.textContent = JSON.stringify(value)), more.remove()), { class: "quiet" })
    return [made, " ", more]
  }
  return made
}
