// Shows a letter while it is written. Each step that says something has a paragraph of its own: text that is pending,
// text that stays, and text that was taken back, which is struck through until the next attempt speaks.

import { streamEvents } from "/perdure-stream.js"

const byId = (id) => document.getElementById(id)
const form = byId("wish")
const stop = byId("stop")
const letter = byId("letter")
const log = byId("log")
const FADE_MS = 600

let listening = null

function state(name, text) {
  byId("status").dataset.state = name
  byId("status").textContent = text
}

function note(text) {
  const item = document.createElement("li")
  item.textContent = text
  log.append(item)
}

function element(name, text, kind = "") {
  const made = document.createElement(name)
  made.textContent = text
  if (kind) made.className = kind
  return made
}

/** A step's paragraph: what it says, and what becomes of it. */
class Paragraph {
  constructor() {
    this.place = element("p", "")
    this.pending = null
    letter.append(this.place)
  }

  say(text) {
    for (const gone of this.place.querySelectorAll("del:not(.leaving)")) leave(gone)
    // A step that speaks again after it was recorded runs anew, and replaces what it said.
    for (const kept of this.place.querySelectorAll(".kept")) kept.remove()
    if (!this.pending) {
      this.pending = element("span", "", "pending")
      this.place.append(this.pending)
    }
    this.pending.append(text)
  }

  takeBack() {
    const text = this.pending?.textContent.trim() ?? ""
    if (text) this.pending.replaceWith(element("del", `${text} `))
    this.pending = null
    return text
  }

  keep() {
    const text = this.pending?.textContent.trim() ?? ""
    if (this.pending) this.pending.className = "kept"
    this.pending = null
    return text
  }
}

function leave(gone) {
  gone.classList.add("leaving")
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches
  setTimeout(() => gone.remove(), calm ? 0 : FADE_MS)
}

function show(event, paragraphs) {
  const { kind, hashedStepId: step } = event
  if (kind === "metadata") return note(`Run ${event.runId} has begun.`)
  if (kind === "data") {
    if (!paragraphs.has(step)) paragraphs.set(step, new Paragraph())
    paragraphs.get(step).say(String(event.data))
    return
  }
  for (const paragraph of step === null ? paragraphs.values() : [paragraphs.get(step)].filter(Boolean)) {
    const text = kind === "rollback" ? paragraph.takeBack() : paragraph.keep()
    if (text) note(`${kind === "rollback" ? "Taken back" : "Recorded"}: “${text}”`)
  }
}

/** Says how it stands, once for each change: a live region that repeats itself is a nuisance. */
function tell() {
  let [name, text] = ["waiting", "Asking for a letter …"]
  if (letter.querySelector("del:not(.leaving)"))
    [name, text] = ["again", "The writer broke off. What was said is taken back, and will be written again."]
  else if (letter.querySelector(".pending")) [name, text] = ["writing", "The letter is being written …"]
  else if (letter.querySelector(".kept")) [name, text] = ["recorded", "What is written is recorded. The ink dries …"]
  if (byId("status").dataset.state !== name) state(name, text)
}

async function write(wish) {
  listening?.abort()
  const mine = (listening = new AbortController())
  letter.replaceChildren()
  log.replaceChildren()
  letter.setAttribute("aria-busy", "true")
  stop.disabled = false
  state("waiting", "Asking for a letter …")
  try {
    const response = await heard(wish, mine.signal)
    const answer = await response.text()
    note(`Answer ${response.status}: ${answer}`)
    if (!response.ok) throw new Error(`the answer is ${response.status}`)
    state("done", "The letter is written.")
  } catch (error) {
    if (mine !== listening) return
    if (mine.signal.aborted) state("left", "You no longer listen. The letter is written all the same.")
    else state("failed", `There is no letter: ${error.message}`)
  }
  if (mine !== listening) return
  letter.setAttribute("aria-busy", "false")
  stop.disabled = true
}

/** Shows what comes, and returns the final answer. */
async function heard(wish, signal) {
  const body = JSON.stringify(wish)
  const events = streamEvents("/letters", { method: "POST", headers: { "content-type": "application/json" }, body, signal })
  const paragraphs = new Map()
  for (;;) {
    const { done, value } = await events.next()
    if (done) return value
    if (signal.aborted) throw signal.reason
    show(value, paragraphs)
    tell()
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault()
  const given = new FormData(form)
  write({ to: given.get("to"), about: given.get("about"), breaks_off: given.has("breaks_off") })
})
stop.addEventListener("click", () => listening?.abort())
