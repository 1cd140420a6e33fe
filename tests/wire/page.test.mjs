// The module for pages alone: framing, the generator, the buffer, and leaving. Run by test_browser_module.py.
import assert from "node:assert/strict"
import { test } from "node:test"
import { pathToFileURL } from "node:url"

const { RollbackBuffer, SseParser, StreamError, fetchWithStream, streamEvents } = await import(
  pathToFileURL(process.env.MODULE).href
)
const event = (name, data) => `event: inngest.${name}\ndata: ${JSON.stringify(data)}\n\n`
const chunk = (data, hashedStepId = "a") => event("stream", { data, hashedStepId })
const DONE = event("response", { status: "succeeded", response: { body: "ok", statusCode: 201, headers: { "x-a": "1" } } })

/** A `fetch` that gives one stream for each address; `left` has the addresses of those that were cancelled. */
function playing(streams, left = []) {
  return async (url, { signal }) => {
    const { text, open } = streams[url]
    const body = new ReadableStream({
      start(controller) {
        if (text) controller.enqueue(new TextEncoder().encode(text))
        if (!open) controller.close()
        signal.addEventListener("abort", () => {
          left.push(url)
          try {
            controller.error(signal.reason)
          } catch {} // It was closed before.
        })
      },
      cancel: () => void left.push(url),
    })
    return new Response(body, { headers: { "content-type": "text/event-stream" } })
  }
}

test("it does not matter where the text is cut", () => {
  const text = "\u{feff}".slice(1) + "event: e\r\ndata: 1\r\n\r\n: c\rid: 4\rdata: 2\r\rretry: 9\ndata: a\ndata:b\n\ndata: cut"
  const whole = [...new SseParser().feed(text)]
  assert.deepEqual(whole, [
    { event: "e", data: "1", id: null },
    { event: "message", data: "2", id: "4" },
    { event: "message", data: "a\nb", id: null },
  ])
  for (let at = 1; at < text.length; at += 1) {
    const parser = new SseParser()
    assert.deepEqual([...parser.feed(text.slice(0, at)), ...parser.feed(""), ...parser.feed(text.slice(at))], whole)
    assert.deepEqual([parser.lastId, parser.retry], ["4", 9])
  }
})

test("the generator gives events and returns the answer", async () => {
  const left = []
  const redirect = event("redirect_info", { runId: "R", url: "http://relay/" })
  const fetch = playing({ "http://app/": { text: chunk(1) + redirect }, "http://relay/": { text: DONE, open: true } }, left)
  const events = streamEvents("http://app/", { fetch })
  // No log has the chunk, and nobody committed it.
  assert.deepEqual((await events.next()).value, { kind: "data", data: 1, hashedStepId: "a" })
  assert.deepEqual((await events.next()).value, { kind: "rollback", hashedStepId: "a" })
  const { done, value } = await events.next()
  assert.deepEqual([done, value.status, value.headers.get("x-a"), await value.text()], [true, 201, "1", "ok"])
  assert.ok(left.includes("http://relay/"))
})

test("who leaves closes the connection", async () => {
  const left = []
  for await (const told of streamEvents("http://app/", { fetch: playing({ "http://app/": { text: chunk(1), open: true } }, left) }))
    if (told.kind === "data") break
  assert.ok(left.includes("http://app/"))
})

for (const phase of ["direct", "relay"])
  test(`a call can be aborted: ${phase}`, async () => {
    const redirect = event("redirect_info", { runId: "R", url: "http://relay/" })
    const fetch = playing({
      "http://app/": { text: redirect + chunk(1), open: phase === "direct" },
      "http://relay/": { text: ":\n\n", open: true },
    })
    const page = new AbortController()
    let done = 0
    const call = fetchWithStream("http://app/", {
      fetch,
      signal: page.signal,
      onData: () => void setTimeout(() => page.abort(), 10),
      onDone: () => void (done += 1),
    })
    await assert.rejects(call, { name: "AbortError" })
    assert.equal(done, 1)
  })

test("an error of a callback ends the call, and is told", async () => {
  const said = []
  const call = fetchWithStream("http://app/", {
    fetch: playing({ "http://app/": { text: chunk(1), open: true } }),
    onData: () => {
      throw new TypeError("mine")
    },
    onStreamError: (message) => void said.push(message),
    onDone: () => void said.push("done"),
  })
  await assert.rejects(call, { name: "TypeError", message: "mine" })
  assert.deepEqual(said, ["mine", "done"])
})

test("patience ends", async () => {
  const began = Date.now()
  const call = fetchWithStream("http://relay/", { fetch: playing({ "http://relay/": { text: ":\n\n" } }), lastEventId: "0", patience: 300 })
  await assert.rejects(call, new StreamError("No response: the relay ended without one"))
  assert.ok(Date.now() - began >= 300)
})

test("the buffer counts each step on its own", () => {
  const buffer = new RollbackBuffer()
  const data = (value, hashedStepId) => buffer.add({ kind: "data", data: value, hashedStepId })
  for (const [value, step] of [["x", null], ["1", "a"], ["2", "b"], ["3", "a"]]) data(value, step)
  buffer.add({ kind: "rollback", hashedStepId: "a" })
  assert.deepEqual(buffer.chunks, ["x", "2"])
  buffer.add({ kind: "commit", hashedStepId: "b" })
  data("4", "a")
  buffer.add({ kind: "rollback", hashedStepId: null })
  assert.equal(buffer.text, "x2")
  data("again", "b")
  buffer.add({ kind: "metadata", runId: "R" })
  assert.equal(buffer.text, "xagain")
})
