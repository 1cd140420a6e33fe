// The live connection: one event stream that says when something has changed. Views that show something ask for it
// again then: at most once a second, never twice at once, and not while nobody looks.
//
// It is read with fetch, which names the environment in a header and sees why it is refused, as an EventSource does not.

import { headers, ask, session } from "./api.js"

const PAUSE = 1000 // between two requests of a view
const SILENT = 45_000 // the server says something every 15 s: a connection that is silent for so long is dead
const watchers = new Set()
let connection = null
let state = "connecting"
let known = ""

function tell(next) {
  if (state === next) return
  state = next
  dispatchEvent(new CustomEvent("live-state", { detail: next }))
}

export const liveState = () => state

/** Opens the connection, and keeps it open: what was heard last goes along, so nothing is missed and nothing told twice. */
export async function connect() {
  disconnect()
  const mine = (connection = new AbortController())
  for (let pause = 500; !mine.signal.aborted; pause = Math.min(pause * 2, 15_000)) {
    try {
      const answer = await ask("GET", "v2/changes", { signal: mine.signal, headers: headers({ "last-event-id": known }) })
      tell("live")
      pause = 500
      await read(answer, mine)
    } catch (error) {
      if (mine.signal.aborted) return
      if (session.role === null || error.status === 404) return tell("away")
    }
    if (mine.signal.aborted) return
    tell("away")
    await new Promise((resolve) => setTimeout(resolve, pause))
  }
}

async function read(answer, mine) {
  const reader = answer.body.getReader()
  const decoder = new TextDecoder()
  const stop = () => reader.cancel().catch(() => {})
  mine.signal.addEventListener("abort", stop, { once: true })
  let timer = setTimeout(stop, SILENT)
  try {
    for (let buffer = ""; ; ) {
      const { done, value } = await reader.read()
      if (done) return
      clearTimeout(timer)
      timer = setTimeout(stop, SILENT)
      const frames = (buffer + decoder.decode(value, { stream: true })).split("\n\n")
      buffer = frames.pop()
      for (const frame of frames) {
        const id = frame.split("\n").find((line) => line.startsWith("id: "))
        if (!id) continue
        known = id.slice(4)
        watchers.forEach((watcher) => watcher.changed())
      }
    }
  } finally {
    clearTimeout(timer)
    mine.signal.removeEventListener("abort", stop)
  }
}

export function disconnect() {
  connection?.abort()
  connection = null
  known = ""
  tell("connecting")
}

class Watcher {
  constructor(refresh, pause) {
    this.refresh = refresh
    this.pause = pause
    this.last = Date.now()
    this.wanted = this.running = false
    this.timer = 0
  }
  changed() {
    this.wanted = true
    if (this.running || this.timer || document.hidden) return
    this.timer = setTimeout(() => this.run(), Math.max(0, this.last + this.pause - Date.now()))
  }
  async run() {
    this.timer = 0
    this.wanted = false
    this.running = true
    try {
      await this.refresh()
    } catch (error) {
      // What the server did not answer is asked again with the next change.
      if (error.name !== "AbortError" && error.status === undefined) throw error
    } finally {
      this.running = false
      this.last = Date.now()
      if (this.wanted && watchers.has(this)) this.changed()
    }
  }
}

/** Calls `refresh` when something has changed, until the signal is aborted; at most once in `pause` ms. */
export function watch(refresh, signal, pause = PAUSE) {
  const watcher = new Watcher(refresh, pause)
  watchers.add(watcher)
  signal.addEventListener("abort", () => {
    watchers.delete(watcher)
    clearTimeout(watcher.timer)
  })
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) watchers.forEach((watcher) => watcher.wanted && watcher.changed())
})
