// The shell: who is signed in, which view the address names, light and dark, the keyboard. A view is a module with
// `show(root, {params, query, signal})`; what it watches and asks ends with its signal.

import { chooseEnvironment, environment, environments, may, session, signOut, whoAmI } from "./api.js"
import { button, failed, h, loading, put, svg, to, toast } from "./dom.js"
import { connect, disconnect, liveState } from "./live.js"

// Address, view, name in the navigation, key after "g".
const VIEWS = [
  ["runs", "runs", "Runs", "r"],
  ["runs/:run", "run"],
  ["failed", "failed", "Failed", "x"],
  ["events", "events", "Events", "e"],
  ["events/:event", "event"],
  ["functions", "functions", "Functions", "f"],
  ["functions/:app/:function", "function"],
  ["apps", "apps", "Apps", "a"],
  ["agents", "agents", "Agents", "g"],
  ["agents/:agent", "agent"],
  ["endpoints", "endpoints", "Endpoints", "p"],
  ["system", "system", "System", "s"],
]

const main = document.getElementById("main")
let leaving = new AbortController()
let keyed = 0
const AGAIN = 5000 // until what the server did not answer is asked again

function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?")
  const parts = (path || "runs").split("/").map(decodeURIComponent)
  for (const [pattern, view] of VIEWS) {
    const names = pattern.split("/")
    if (names.length === parts.length && names.every((name, i) => name.startsWith(":") || name === parts[i])) {
      const params = Object.fromEntries(names.flatMap((name, i) => (name.startsWith(":") ? [[name.slice(1), parts[i]]] : [])))
      return { view, params, query: new URLSearchParams(query), section: parts[0] }
    }
  }
  return { view: null, section: parts[0] }
}

async function route() {
  leaving.abort()
  leaving = new AbortController()
  const { signal } = leaving
  if (session.role === null) return showSignIn()
  const { view, section, ...rest } = place()
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.section === section) {
      link.setAttribute("aria-current", "page")
      link.scrollIntoView({ block: "nearest", inline: "nearest" })
    } else link.removeAttribute("aria-current")
  }
  main.className = `view-${view}`
  put(main, loading())
  try {
    if (view === null) throw new Error("There is no such page")
    const shown = await import(`./views/${view}.js`)
    if (signal.aborted) return
    const root = h("div.view")
    await shown.show(root, { ...rest, signal })
    if (signal.aborted) return
    put(main, root)
    // Where the link was that was followed, the keyboard and screen readers would begin the page anew.
    if (document.activeElement === document.body) main.focus({ preventScroll: true })
    const heading = main.querySelector("h1")
    document.title = heading ? `${heading.textContent} · perdure` : "perdure"
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return
    put(main, failed(error, route))
    if (error.status === 0) setTimeout(() => signal.aborted || route(), AGAIN)
  }
}

async function showSignIn() {
  disconnect()
  const { show } = await import("./views/signin.js")
  show(put(main), enter)
  tools()
}

// Light and dark: what the system says, unless somebody chose.

function theme(chosen) {
  if (chosen) document.documentElement.dataset.theme = chosen
  else delete document.documentElement.dataset.theme
}

function isDark() {
  return (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark"
}

function switchTheme() {
  const next = isDark() ? "light" : "dark"
  theme(next)
  localStorage.setItem("perdure-theme", next)
}

function tools() {
  const words = { live: "Live", away: "Reconnecting", connecting: "Connecting" }
  const state = liveState()
  put(
    document.querySelector(".tools"),
    session.role && h("span.live", { "data-state": state, role: "status" }, words[state]),
    session.role && session.signsIn && h("span.role", { title: "The role of the key that you signed in with" }, session.role),
    session.role && others.length > 0 && chooser(),
    button(halfMoon(), switchTheme, { class: "quiet icon", title: "Light or dark (t)", "aria-label": "Light or dark" }),
    button("?", help, { class: "quiet icon", title: "Keys (?)", "aria-label": "Keys of the keyboard" }),
    session.role && session.signsIn && button("Sign out", signOut, { class: "quiet" }),
  )
}

// The environments of the server, where it has others than its main one.

let others = []

function chooser() {
  const names = ["", ...new Set([...others, environment()].filter(Boolean))]
  const made = h("select", { "aria-label": "Environment" }, ...names.map((name) =>
    h("option", { value: name, selected: name === environment() }, name || "Main environment")))
  made.addEventListener("change", () => {
    chooseEnvironment(made.value)
    connect()
    if (location.hash.split("/").length > 2) location.hash = to(place().section)
    else route()
  })
  return made
}

async function enter() {
  connect()
  others = await environments()
  tools()
  await route()
}

const halfMoon = () =>
  svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: "M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1zm0 1.5v11a5.5 5.5 0 0 0 0-11z", "fill-rule": "evenodd" }))

async function help() {
  const { ask } = await import("./dialog.js")
  const keys = VIEWS.filter(([, , name]) => name).map(([, , name, key]) => `g ${key}: ${name}`)
  const more = ["/: filter", "j, k: next and previous row", "Enter: open", "t: light or dark", "Esc: close"]
  await ask({ title: "Keys", text: [...keys, ...more].join(" · "), action: "Close" })
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return
  if (event.target.matches("input, textarea, select, [contenteditable]")) {
    if (event.key === "Escape") event.target.blur()
    return
  }
  const afterG = Date.now() - keyed < 1500
  keyed = 0
  if (afterG) {
    const found = VIEWS.find(([, , , key]) => key === event.key)
    if (found) return void (location.hash = to(found[0]))
  }
  if (event.key === "g") keyed = Date.now()
  else if (event.key === "t") switchTheme()
  else if (event.key === "?") help()
  else if (event.key === "/") {
    const field = main.querySelector("[data-filter]")
    if (field) event.preventDefault(), field.focus()
  } else if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1)
}

function step(by) {
  const links = [...main.querySelectorAll(".row a.name, tbody a.name, .row button.name")]
  const at = links.indexOf(document.activeElement)
  links[Math.max(0, Math.min(links.length - 1, at + by))]?.focus()
}

async function start() {
  try {
    theme(localStorage.getItem("perdure-theme"))
  } catch {
    // Storage may be closed to pages; the system's choice stays.
  }
  put(
    document.querySelector("nav"),
    VIEWS.filter(([, , name]) => name).map(([path, , name]) => h("a", { href: to(path), "data-section": path }, name)),
  )
  put(main, loading())
  try {
    await whoAmI()
  } catch (error) {
    if (environment() && error.status) {
      // The environment that this tab looked at is gone.
      chooseEnvironment("")
      return start()
    }
    if (error.status === 0) setTimeout(start, AGAIN)
    return put(main, failed(error, start))
  }
  await (may("viewer") ? enter() : route())
}

// What a view had asked when it was left is nobody's; what the server refused, and nobody has shown, is told here.
addEventListener("unhandledrejection", (event) => {
  const { name, status, message } = event.reason ?? {}
  if (name !== "AbortError" && status === undefined) return
  event.preventDefault()
  if (name !== "AbortError") toast(message, "bad")
})
addEventListener("hashchange", route)
addEventListener("keydown", onKey)
addEventListener("live-state", tools)
addEventListener("signed-out", route)
start()
