// Elements, built from plain data. Whatever users wrote goes in as text: nothing here, and nothing in the page, takes
// markup, so what is shown can never become part of it.

const SVG = "http://www.w3.org/2000/svg"

/** An element: `h("a.name", {href, onclick}, "text", other, ...)`. Children that are null or false are left out. */
export function h(tag, props, ...children) {
  const [name, ...classes] = tag.split(".")
  const made = document.createElement(name || "div")
  if (classes.length) made.className = classes.join(" ")
  return fill(made, props, children)
}

/** The same for SVG. */
export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children)
}

function fill(made, props, children) {
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value)
    else if (key in made && typeof value !== "string" && !(made instanceof SVGElement)) made[key] = value
    else made.setAttribute(key, value === true ? "" : String(value))
  }
  add(made, children)
  return made
}

function add(parent, children) {
  for (const child of children) {
    if (Array.isArray(child)) add(parent, child)
    else if (child !== null && child !== undefined && child !== false) parent.append(child)
  }
}

/** Replaces what an element holds. */
export function put(parent, ...children) {
  parent.replaceChildren()
  add(parent, children)
  return parent
}

/** A link inside the page; ids and names are escaped here. */
export const to = (...parts) => "#/" + parts.map((part) => encodeURIComponent(part)).join("/")

/** A button. */
export const button = (text, onclick, props) => h("button", { type: "button", onclick, ...props }, text)

/** A short message, told to screen readers too, which goes by itself. */
export function toast(text, kind = "") {
  const shown = h("div.toast", { class: `toast ${kind}` }, text)
  document.getElementById("toasts").append(shown)
  setTimeout(() => shown.remove(), kind === "bad" ? 9000 : 5000)
}

/** Puts a text on the clipboard, and says so. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text)
    toast("Copied")
  } catch {
    toast("The browser does not let this page copy: select the text instead", "bad")
  }
}

// The states that every part of the page can be in besides showing something.

export const loading = () => h("p.state", { role: "status" }, h("span.spin", { "aria-hidden": "true" }), "Loading…")

export const empty = (text, ...hints) => h("div.state.empty", null, h("p", null, h("strong", null, text)), ...hints)

/** What went wrong, and what to do. */
export function failed(error, again) {
  const hint =
    error.status === 0
      ? "The server does not answer. Is it running? The page goes on by itself once it is back."
      : error.status === 403
        ? "Sign in with a key of a larger role to do this."
        : error.status === 404
          ? "It may be past its retention, or the address is wrong."
          : "Try again; if it stays, look at the server's log."
  return h(
    "div.state.bad",
    { role: "alert" },
    h("p", null, h("strong", null, error.message || String(error))),
    h("p", null, hint),
    again && button("Try again", again),
  )
}
