// What a run says while it goes on: chunks as they come, what was kept, and what was taken back struck through.

import { streamEvents } from "../perdure-stream.js"
import { address, headers } from "./api.js"
import { h, put } from "./dom.js"

const MOST = 5000 // chunks that are shown; a page that is left open must not grow

/** Follows the stream of a run in an element until the run ends or the signal is aborted. */
export async function follow(root, run, signal) {
  const state = h("span.dim", { role: "status" }, "streaming")
  const text = h("div.said", { tabindex: "0", role: "log", "aria-label": "Stream of the run" })
  put(root, h("section.card", null, h("h2", null, "Stream ", state), text))
  const pending = new Map() // step -> elements that may still be taken back
  const settle = (step, act) => {
    for (const key of step === null ? [...pending.keys()] : [step]) {
      for (const each of pending.get(key) ?? []) act(each)
      pending.delete(key)
    }
  }
  const forget = (oldest) => {
    oldest.remove()
    // Pieces of a step are in the order in which they came.
    for (const pieces of pending.values()) if (pieces[0] === oldest) pieces.shift()
  }
  try {
    // The client sends no credentials of its own; this page's stream asks for those of the session.
    const own = (url, init) => fetch(url, { ...init, headers: headers(init.headers), credentials: "same-origin" })
    for await (const event of streamEvents(address(`v2/runs/${run}/stream`), { lastEventId: "0", signal, fetch: own })) {
      if (event.kind === "data") {
        const piece = h("span.pending", null, typeof event.data === "string" ? event.data : JSON.stringify(event.data) + " ")
        text.append(piece)
        if (event.hashedStepId === null) piece.className = "kept"
        else if (pending.has(event.hashedStepId)) pending.get(event.hashedStepId).push(piece)
        else pending.set(event.hashedStepId, [piece])
        if (text.childElementCount > MOST) forget(text.firstChild)
        if (text.scrollHeight - text.scrollTop - text.clientHeight < 80) text.scrollTop = text.scrollHeight
      } else if (event.kind === "commit") settle(event.hashedStepId, (each) => (each.className = "kept"))
      else if (event.kind === "rollback") {
        settle(event.hashedStepId, (each) => each.replaceWith(h("del", { title: "Taken back" }, each.textContent)))
      }
    }
    state.textContent = "ended"
  } catch (error) {
    if (!signal.aborted) state.textContent = `broke off: ${error.message}`
  }
}
