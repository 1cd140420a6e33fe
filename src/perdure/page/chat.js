// A talk with an agent: what is said to it, what it says as it comes, and what it asks a person. A thread that others
// write to is drawn anew; a stream that is left goes on without this page.

import { answers, engineLink, engineRun, tell } from "./answers.js"
import { may, post, stream } from "./api.js"
import { button, h, put, toast } from "./dom.js"
import { file, Said } from "./said.js"

/**
 * The element of a talk; `begin(messages, more)` shows a thread from its messages, below a button or null; `leave()` ends
 * the reading of a stream. `thread()` is `{thread, resource}` or null; `edits(tool)` whether its arguments may be edited.
 */
export function chat({ path, signal, thread, said, edits }) {
  const messages = h("div.messages", { role: "log", "aria-label": "Talk", tabindex: "0" })
  const field = h("textarea", { rows: 2, "aria-label": "Message", placeholder: "Say something" })
  const send = h("button.primary", { type: "submit" }, "Send")
  const stop = button("Stop", () => end(), { hidden: true, title: "Ends the run" })
  let talking = null
  const form = h("form", {
    onsubmit: async (event) => {
      event.preventDefault()
      const text = field.value.trim()
      if (!text || talking) return
      field.value = ""
      show("user", text)
      const memory = thread() ? { memory: thread() } : {}
      await read("stream", { messages: text, ...memory })
    },
  }, field, send, stop)
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault()
      form.requestSubmit()
    }
  })

  function show(role, ...parts) {
    const made = h(`div.message.${role}`, null, ...parts)
    messages.append(made)
    down(true)
    return made
  }

  /** Follows what is said, unless somebody has scrolled up to read. */
  function down(always = false) {
    const away = messages.scrollHeight - messages.scrollTop - messages.clientHeight
    if (always || away < 120) messages.scrollTop = messages.scrollHeight
  }

  const ask = (asked) => answers(asked, path, answer, edits)

  /** Reads a stream of chunks into a new message, and answers what it asks. */
  async function read(route, body) {
    const mine = (talking = { reading: new AbortController(), run: null })
    const leave = () => mine.reading.abort()
    signal.addEventListener("abort", leave, { once: true })
    stop.hidden = stop.disabled = false
    send.disabled = true
    const element = show("assistant")
    element.setAttribute("aria-busy", "true")
    const message = new Said(element, ask)
    try {
      const response = await stream(`${path}/${route}`, body, mine.reading.signal)
      for await (const chunk of chunks(response)) {
        if (chunk.runId && !mine.run) {
          mine.run = chunk.runId
          element.after(turn(chunk.runId))
        }
        message.take(chunk)
        down()
      }
    } catch (error) {
      if (error.name !== "AbortError") message.problem(error.message)
    } finally {
      signal.removeEventListener("abort", leave)
      element.removeAttribute("aria-busy")
      if (!element.childNodes.length) element.remove()
      if (talking === mine) {
        talking = null
        stop.hidden = true
        send.disabled = false
        if (!signal.aborted) await said()
      }
    }
  }

  /** Ends the run: a durable one by its id, another one by hanging up. */
  async function end() {
    const mine = talking
    stop.disabled = true
    const durable = mine.run && (await engineRun(mine.run))
    if (!durable) return mine.reading.abort()
    await post(`${path}/runs/${encodeURIComponent(mine.run)}/abort`).catch((error) => toast(error.message, "bad"))
  }

  function leave() {
    talking?.reading.abort()
    talking = null
    stop.hidden = true
    send.disabled = false
  }

  async function answer(route, body) {
    // The stream of a durable run stays open over its question, and tells how it goes on; another one is a new stream.
    await (talking ? tell(path, route, body) : read(route, body))
  }

  function begin(stored, more, top = false) {
    const away = messages.scrollHeight - messages.scrollTop - messages.clientHeight
    put(messages, more)
    let last = null
    for (const message of stored) last = old(message, last)
    messages.scrollTop = top ? 0 : messages.scrollHeight - messages.clientHeight - (away < 120 ? 0 : away)
  }

  /** Shows a stored message; gives the run that is named below it, which is named once, below its last message. */
  function old({ id, role, content }, last) {
    const parts = content?.parts ?? []
    if (role === "assistant") {
      const asks = { ...content?.metadata?.pendingToolApprovals, ...content?.metadata?.suspendedTools }
      const questions = Object.fromEntries(Object.entries(asks).map(([call, asked]) => [call, { ...asked, requiresApproval: asked.type === "approval" }]))
      const element = show("assistant")
      const message = new Said(element, ask)
      parts.forEach((part) => message.part(part, questions))
      if (!element.childNodes.length) element.remove()
      const run = /^(.+)-m\d+$/.exec(id)?.[1]
      if (!run) return null
      if (last?.run === run) last.link.remove()
      const link = turn(run)
      messages.append(link)
      return { run, link }
    }
    if (role === "user" || role === "signal") {
      const text = content?.content ?? parts.map((part) => part.text ?? "").join("")
      show(role, text, parts.filter((part) => part.type === "file").map((part) => file(part.data, part.mimeType)))
    }
    return null
  }

  const foot = may() ? form : h("p.dim", null, "Your role may read along, and not talk.")
  return { element: h("section.card.chat", { "aria-label": "Talk" }, messages, foot), begin, leave, busy: () => Boolean(talking) }
}

const turn = (run) => h("p.turn", null, engineLink(run))

/** The chunks of an event stream. */
async function* chunks(response) {
  const decoder = new TextDecoder()
  let buffer = ""
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read()
    if (done) return
    buffer += decoder.decode(value, { stream: true })
    const frames = buffer.split("\n\n")
    buffer = frames.pop()
    for (const frame of frames) {
      const text = frame.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n")
      if (text === "[DONE]") return
      if (text) yield JSON.parse(text)
    }
  }
}
