// One message of an agent, drawn from the chunks of its stream as they come, or from what a thread kept of it: text,
// reasoning, tool calls with their questions and results, sources, files. Everything in it is shown as text.

import { may } from "./api.js"
import { button, h, toast } from "./dom.js"
import { jsonView } from "./json.js"

const MOST = 500 // things that one tool says while it goes on

export class Said {
  /** `ask(question)` gives the buttons that answer it; without it, nobody is asked here. */
  constructor(element, ask) {
    this.element = element
    this.ask = ask
    this.calls = new Map()
    this.pieces = [] // of this attempt of the step: they may be taken back
    this.last = null
  }

  /** A chunk of a stream. */
  take({ type, payload = {}, runId }) {
    if (type === "step-start") this.pieces = []
    else if (type === "text-delta") this.write("text", payload.text)
    else if (type === "reasoning-delta") this.write("think", payload.text)
    else if (type === "text-end" || type === "reasoning-end") this.last = null
    else if (type === "tool-call") this.call(payload)
    else if (type === "tool-output") this.output(payload)
    else if (type === "tool-result") this.result(payload, jsonView(payload.result))
    else if (type === "tool-error") this.result(payload, h("p.bad", null, reason(payload.error)))
    else if (type === "tool-output-denied") this.result(payload, denied(payload.reason ?? payload.approval?.reason))
    else if (type === "tool-call-approval") this.question({ ...payload, runId, requiresApproval: true })
    else if (type === "tool-call-suspended") this.question({ ...payload, runId, requiresApproval: false })
    else if (type === "step-rollback") this.takeBack()
    else if (type === "source") this.add(source(payload))
    else if (type === "file") this.add(file(payload.base64 ?? payload.data, payload.mimeType))
    else if (type === "error") this.problem(reason(payload.error))
    else if (type === "tripwire") this.problem(`Stopped: ${payload.reason ?? "a processor did not let it pass"}`)
    else if (type === "abort") this.problem("Aborted")
    else if (type === "finish" && ["length", "content-filter"].includes(payload.stepResult?.reason)) this.problem(`Cut off: ${payload.stepResult.reason}`)
  }

  /** A part of a stored message. */
  part(part, questions = {}) {
    if (part.type === "text") this.write("text", part.text)
    else if (part.type === "reasoning") this.write("think", part.reasoning)
    else if (part.type === "source") this.add(source(part.source))
    else if (part.type === "file") this.add(file(part.data, part.mimeType))
    else if (part.type === "tool-invocation") this.kept(part.toolInvocation, questions)
    this.last = null
  }
  kept(call, questions) {
    this.call(call)
    if (call.state === "result") this.result(call, jsonView(call.result))
    else if (call.state === "output-denied") this.result(call, denied(call.approval?.reason))
    else if (call.errorText) this.result(call, h("p.bad", null, call.errorText))
    else if (questions[call.toolCallId]) this.question(questions[call.toolCallId])
  }

  write(kind, text) {
    if (this.last?.dataset.kind !== kind) {
      this.last = h("span", { class: kind, "data-kind": kind })
      this.add(this.last)
    }
    this.last.append(text ?? "")
  }
  add(piece) {
    this.element.append(piece)
    this.pieces.push(piece)
  }
  call(payload) {
    this.last = null
    const made = h("div.call", null, h("strong", null, payload.toolName), jsonView(payload.args ?? {}))
    this.calls.set(payload.toolCallId, made)
    this.add(made)
    return made
  }
  place(payload) {
    return this.calls.get(payload.toolCallId) ?? this.call(payload)
  }
  /** What a tool says while it goes on; a sub-agent says chunks of its own. */
  output(payload) {
    const made = this.place(payload)
    made.within ??= new Said(h("div.within"), null)
    if (!made.within.element.parentNode) made.append(made.within.element)
    const { output } = payload
    if (output?.type && output.payload) made.within.take(output)
    else if (made.within.pieces.length < MOST) made.within.add(jsonView(output))
  }
  result(payload, shown) {
    const made = this.place(payload)
    made.querySelector(":scope > .question")?.remove()
    made.append(h("div.outcome", null, shown))
  }
  question(asked) {
    const made = this.place(asked)
    made.querySelector(":scope > .question")?.remove()
    if (!this.ask) return
    const other = made.firstChild.textContent !== asked.toolName
    made.append(h("div.question", null,
      h("p", null, other && [h("strong", null, asked.toolName), ": "], h("strong", null, asked.requiresApproval ? "It waits for your approval." : "It waits for data.")),
      other && asked.args && jsonView(asked.args),
      asked.suspendPayload !== undefined && jsonView(asked.suspendPayload),
      may() && this.ask(asked)))
  }
  takeBack() {
    for (const piece of this.pieces) piece.replaceWith(h("del", { title: "Taken back" }, piece.textContent))
    this.pieces = []
    this.last = null
  }
  problem(text) {
    this.last = null
    this.element.append(h("p.bad", { role: "alert" }, text))
  }
}

/** What an error says, in whatever shape it came. */
export const reason = (error) =>
  typeof error === "string" ? error : (error?.message ?? error?.details?.errorMessage ?? error?.cause?.message ?? JSON.stringify(error ?? "The run failed"))

const denied = (why) => h("p", null, h("strong", null, "Declined"), why && `: ${why}`)

function source({ url, title }) {
  const text = title || url || "A source"
  // Only what leads to the web becomes a link: other schemes could run something.
  return h("p.source", null, "Source: ", /^https?:\/\//i.test(url ?? "") ? h("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, text) : text)
}

/** A file, which is saved and never opened in the page. */
export function file(data, kind = "") {
  const text = String(data ?? "")
  if (/^https?:\/\//i.test(text)) return source({ url: text, title: `File ${kind}` })
  return h("p.source", null, `File ${kind} `, button("Save", () => {
    try {
      const bytes = Uint8Array.from(atob(text.replace(/^data:[^,]*,/, "")), (each) => each.charCodeAt(0))
      const url = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }))
      h("a", { href: url, download: "file" }).click()
      setTimeout(() => URL.revokeObjectURL(url), 10_000)
    } catch {
      toast("The file is not base64, so it cannot be saved", "bad")
    }
  }, { class: "quiet" }))
}
