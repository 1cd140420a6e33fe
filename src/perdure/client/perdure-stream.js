// Calls a durable endpoint and hears what it says while it works, in browsers, Node, Deno and Bun. No dependencies.
//
//   import { fetchWithStream, streamEvents, RollbackBuffer } from "https://perdure.example/perdure-stream.js"
//
// The endpoint's own answer is heard first; if it ends without the final answer, the stream goes on at the relay of a
// server, from the last event that came in. Nothing that the caller sent, no header and no cookie, goes to the relay.

const EVENT_STREAM = "text/event-stream"
const KINDS = { metadata: "metadata", stream: "data", commit: "commit", rollback: "rollback" }
const SILENT_MS = 60_000 // A relay says at least a comment every 15 seconds.

export class StreamError extends Error {
  constructor(message, status = null) {
    super(message)
    this.name = "StreamError"
    this.status = status
  }
}

/** Server-sent events out of text, however it is cut: LF, CRLF or CR; what lacks its blank line does not count. */
export class SseParser {
  constructor(lastId = "") {
    this.lastId = lastId
    this.retry = 0
    this.tail = []
    this.afterCr = false
    this.clear()
  }
  clear() {
    this.event = ""
    this.data = []
    this.id = null
  }
  *feed(text) {
    if (this.afterCr && text) {
      if (text.startsWith("\n")) text = text.slice(1)
      this.afterCr = false
    }
    this.afterCr = text ? text.endsWith("\r") : this.afterCr
    const lines = text.split(/\r\n|\n|\r/)
    if (lines.length > 1) {
      lines[0] = this.tail.join("") + lines[0]
      this.tail = []
    }
    this.tail.push(lines.pop())
    for (const line of lines) {
      if (line) this.line(line)
      else yield* this.complete()
    }
  }
  line(line) {
    const colon = line.indexOf(":")
    const name = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1))
    if (name === "data") this.data.push(value)
    else if (name === "event") this.event = value
    else if (name === "id" && !value.includes("\0")) this.id = value
    else if (name === "retry" && /^\d+$/.test(value)) this.retry = Number(value)
  }
  *complete() {
    if (this.id !== null) this.lastId = this.id
    const { event, data, id } = this
    this.clear()
    if (data.length) yield { event: event || "message", data: data.join("\n"), id }
  }
}

function parse({ event, data }) {
  const kind = event.startsWith("inngest.") ? event.slice("inngest.".length) : ""
  if (!(Object.hasOwn(KINDS, kind) || kind === "redirect_info" || kind === "response")) return null
  let found
  try {
    found = JSON.parse(data)
  } catch (error) {
    throw new StreamError(`the data of an event ${event} is not JSON: ${error.message}`)
  }
  if (found === null || typeof found !== "object" || Array.isArray(found)) return null
  const step = found.hashedStepId ?? null
  const wrong =
    (step !== null && typeof step !== "string") ||
    (kind === "metadata" && typeof found.runId !== "string") ||
    (kind === "redirect_info" && typeof found.url !== "string") ||
    (kind === "response" && !Number.isInteger(found.response?.statusCode))
  if (wrong) throw new StreamError(`an event ${event} has an unknown shape`)
  if (kind === "redirect_info" || kind === "response") return { kind, ...found }
  if (kind === "metadata") return { kind, runId: found.runId }
  return kind === "stream" ? { kind: "data", data: found.data ?? null, hashedStepId: step } : { kind, hashedStepId: step }
}

function answerOf({ statusCode, body = "", headers = {}, headers_list: pairs, body_b64: base64 }) {
  const content = base64 == null ? body : Uint8Array.from(atob(base64), (char) => char.charCodeAt(0))
  return responseOf(content, statusCode, pairs ?? headers)
}

function responseOf(content, status, headers) {
  return new Response([204, 205, 304].includes(status) ? null : content, { status, headers })
}

const sleep = (ms, signal) =>
  new Promise((resolve, reject) => {
    const stop = () => (clearTimeout(timer), reject(signal.reason))
    const timer = setTimeout(() => (signal.removeEventListener("abort", stop), resolve()), ms)
    if (signal.aborted) stop()
    else signal.addEventListener("abort", stop, { once: true })
  })

class Stream {
  constructor(url, { fetch, resume = true, patience = 60_000, lastEventId = null, signal, ...init }) {
    Object.assign(this, { url, init, lastEventId: lastEventId ?? "", relayUrl: lastEventId === null ? null : url })
    this.fetch = fetch ?? ((...request) => globalThis.fetch(...request))
    this.patience = resume ? patience : 0
    this.closed = new AbortController()
    // By hand: not every browser that is in use has AbortSignal.any.
    const abort = () => this.closed.abort(signal.reason)
    if (signal?.aborted) abort()
    else signal?.addEventListener("abort", abort, { once: true, signal: this.closed.signal })
    this.signal = this.closed.signal
    this.response = this.runId = this.outputUrl = this.early = this.failingSince = null
    this.asked = this.failed = false
    this.offset = /^\d+$/.test(this.lastEventId) ? Number(this.lastEventId) : 0
    this.undecided = new Set()
    this.pause = 100
    this.retry = 0
  }

  async open() {
    if (this.relayUrl) return true
    const headers = new Headers(this.init.headers)
    headers.append("Accept", EVENT_STREAM)
    this.direct = await this.fetch(this.url, { ...this.init, headers, signal: this.signal })
    if ((this.direct.headers.get("content-type") ?? "").toLowerCase().includes(EVENT_STREAM)) return true
    this.response = this.direct
    return false
  }

  async *events() {
    if (this.direct) yield* this.read(this.direct)
    if (!this.response && !this.relayUrl) throw this.broken ?? new StreamError("No response: the stream ended before its answer")
    while (!this.response) {
      const began = Date.now()
      try {
        const relay = await (this.early ?? this.ask())
        this.early = null
        yield* this.read(relay, SILENT_MS)
        if (this.response) return
        if (Date.now() - began > 5000) this.succeeded()
        await this.failedWith(this.broken ?? new StreamError("No response: the relay ended without one"))
      } catch (error) {
        this.early = null
        if (this.signal.aborted || error.final) throw error
        const { status } = error
        if ([204, 401, 403].includes(status) && this.outputUrl) this.response = await this.poll()
        else if (status && status < 500 && ![408, 425, 429].includes(status)) throw error
        else await this.failedWith(error)
      }
    }
  }

  async ask() {
    const headers = { Accept: EVENT_STREAM, ...(this.lastEventId && { "Last-Event-ID": this.lastEventId }) }
    const relay = await this.fetch(this.relayUrl, { headers, credentials: "omit", cache: "no-store", signal: this.signal })
    if (relay.status === 204) throw new StreamError("the stream is over: nothing comes after this event", 204)
    if (!relay.ok) {
      relay.body?.cancel().catch(() => {})
      throw new StreamError(`Stream request failed: ${relay.status} ${relay.statusText}`.trim(), relay.status)
    }
    return relay
  }

  async poll() {
    for (;;) {
      try {
        const answer = await this.fetch(this.outputUrl, { credentials: "omit", cache: "no-store", signal: this.signal })
        const content = await answer.arrayBuffer()
        const plain = (answer.headers.get("content-type") ?? "").startsWith("text/plain")
        const running = plain && new TextDecoder().decode(content).includes('"status":"running"')
        if (!running && !(answer.status === 202 && answer.headers.has("retry-after")))
          return responseOf(content, answer.status, answer.headers)
        this.succeeded()
      } catch (error) {
        await this.failedWith(error)
      }
    }
  }

  async *read(response, silence = 0) {
    const parser = new SseParser(this.lastEventId)
    const decoder = new TextDecoder()
    const reader = response.body.getReader()
    this.broken = null
    try {
      for (;;) {
        const { done, value } = await within(silence, reader.read()).catch((error) => {
          if (this.signal.aborted) throw error
          this.broken = new StreamError(`the stream broke off: ${error.message}`)
          return { done: true }
        })
        if (done) break
        for (const sent of parser.feed(decoder.decode(value, { stream: true }))) {
          const told = this.take(sent, response.url)
          if (told) yield told
          if (this.response) return
        }
        this.lastEventId = parser.lastId
        this.retry = parser.retry
      }
    } catch (error) {
      // Of the protocol, or of who takes the events: asking again would not help.
      throw this.signal.aborted ? error : Object.assign(error, { final: true })
    } finally {
      reader.cancel().catch(() => {})
    }
    // Nobody decides about these any more: they are in no log from which the stream could go on.
    for (const hashedStepId of [...this.undecided].sort()) yield { kind: "rollback", hashedStepId }
    this.undecided.clear()
  }

  take(sent, base) {
    const told = parse(sent)
    if (sent.id !== null) this.lastEventId = sent.id
    if (told?.kind === "response") {
      this.response = answerOf(told.response)
      this.failed = told.status === "failed"
    } else if (told?.kind === "redirect_info") {
      this.relayUrl = new URL(told.url, base || this.url).href
      if (told.outputUrl) this.outputUrl = new URL(told.outputUrl, base || this.url).href
      if (!this.asked) (this.early = this.ask()).catch(() => {})
      this.asked = true
    } else if (told?.kind === "metadata") {
      if (this.runId !== told.runId) return (this.runId = told.runId), this.succeeded(), told
    } else if (told && !this.repeated(sent.id)) {
      this.succeeded()
      if (told.kind === "data") {
        if (told.hashedStepId !== null && sent.id === null) this.undecided.add(told.hashedStepId)
      } else if (told.hashedStepId === null) this.undecided.clear()
      else this.undecided.delete(told.hashedStepId)
      return told
    }
    return null
  }

  repeated(id) {
    if (id === null || !/^\d+$/.test(id)) return false // Ids are offsets in the run's log; others have no order.
    const before = this.offset
    this.offset = Math.max(before, Number(id))
    return Number(id) <= before
  }

  succeeded() {
    this.failingSince = null
    this.pause = 100
  }

  async failedWith(error) {
    if (this.signal.aborted) throw error
    this.failingSince ??= Date.now()
    if (Date.now() - this.failingSince >= this.patience) throw Object.assign(error, { final: true })
    const pause = this.pause * (0.5 + 0.5 * Math.random())
    this.pause = Math.min(this.pause * 2, 5000)
    await sleep(Math.max(pause, Math.min(this.retry, 5000)), this.signal)
  }

  close() {
    this.early?.then((relay) => relay.body?.cancel()).catch(() => {})
    if (this.response !== this.direct) this.closed.abort(new StreamError("the stream was closed"))
  }
}

function within(ms, promise) {
  if (!ms) return promise
  let timer
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error("it fell silent")), ms)))
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/**
 * The events of an endpoint as they come, each `{kind: "metadata" | "data" | "commit" | "rollback", ...}`; the
 * generator returns the final `Response`. `options`: those of `fetchWithStream`.
 */
export async function* streamEvents(url, options = {}) {
  const stream = new Stream(url, options)
  try {
    if (await stream.open()) yield* stream.events()
    return stream.response
  } finally {
    stream.close()
  }
}

/**
 * Calls an endpoint; resolves to its final `Response`. `options`: callbacks, `resume` (true), `patience` (60000 ms of
 * failures in a row), `lastEventId` (the URL is that of a relay), `fetch`, and all that `fetch` takes.
 */
export async function fetchWithStream(url, options = {}) {
  const { onMetadata, onData, onCommit, onRollback, onStreamError, onDone, ...rest } = options
  const stream = new Stream(url, rest)
  const tell = {
    metadata: ({ runId }) => onMetadata?.({ runId }),
    data: ({ data, hashedStepId }) => onData?.({ data, hashedStepId }),
    commit: ({ hashedStepId }) => onCommit?.({ hashedStepId }),
    rollback: ({ hashedStepId }) => onRollback?.({ hashedStepId }),
  }
  let streamed = false
  try {
    streamed = await stream.open()
    if (!streamed) return stream.response
    try {
      for await (const event of stream.events()) await tell[event.kind](event)
    } catch (error) {
      await onStreamError?.(error.message)
      throw error
    }
    if (stream.failed) await onStreamError?.(await stream.response.clone().text())
    return stream.response
  } finally {
    stream.close()
    if (streamed) await onDone?.()
  }
}

/** What may be shown of a stream in which chunks can be taken back; each step is counted on its own. */
export class RollbackBuffer {
  #chunks = new Map()
  #pending = new Map()
  #committed = new Map()
  #count = 0
  add({ kind, data, hashedStepId }) {
    const steps = hashedStepId === null ? [...this.#pending.keys()] : [hashedStepId]
    if (kind === "data") {
      // A step that speaks again after its commit runs anew: what it said then, it says again now.
      if (hashedStepId !== null) {
        this.#drop(this.#committed, hashedStepId)
        if (!this.#pending.has(hashedStepId)) this.#pending.set(hashedStepId, [])
        this.#pending.get(hashedStepId).push(this.#count)
      }
      this.#chunks.set(this.#count++, data)
    } else if (kind === "rollback") for (const step of steps) this.#drop(this.#pending, step)
    else if (kind === "commit")
      for (const step of steps) {
        this.#committed.set(step, (this.#committed.get(step) ?? []).concat(this.#pending.get(step) ?? []))
        this.#pending.delete(step)
      }
  }
  #drop(numbers, step) {
    for (const number of numbers.get(step) ?? []) this.#chunks.delete(number)
    numbers.delete(step)
  }
  /** All chunks that were not taken back, in the order in which they came. */
  get chunks() {
    return [...this.#chunks.values()]
  }
  /** The chunks that are texts, as one text. */
  get text() {
    return this.chunks.filter((chunk) => typeof chunk === "string").join("")
  }
}
