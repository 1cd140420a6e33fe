// What a person answers to a tool call of an agent: approve, decline, give data; and the run behind a run of an agent.

import { get, stream } from "./api.js"
import { ask } from "./dialog.js"
import { button, h, put, toast, to } from "./dom.js"

/**
 * Buttons that answer a question of a tool call; `send(route, body)` sends it. Arguments can be edited where `edits(tool)`
 * says that the tool takes others.
 */
export function answers(call, path, send, edits = () => false) {
  const named = { runId: call.runId, toolCallId: call.toolCallId }
  const sent = async (route, more) => {
    const buttons = [...shown.querySelectorAll("button")]
    buttons.forEach((each) => (each.disabled = true))
    try {
      await send(route, { ...named, ...more })
    } catch (error) {
      if (error.name !== "AbortError") toast(error.message, "bad")
      buttons.forEach((each) => (each.disabled = false))
    }
  }
  const shown = call.requiresApproval ? decision(call, sent, edits) : data(call, sent)
  return shown
}

function data(call, sent) {
  const schema = schemaOf(call.resumeSchema)
  return h("div.actions", null, button("Answer…", async () => {
    const done = await ask({
      title: `Answer ${call.toolName}`, text: schema && `It takes: ${JSON.stringify(schema.properties ?? schema)}`,
      fields: [{ name: "data", label: "Data (JSON)", kind: "json", value: blank(schema), required: true }], action: "Send",
    })
    if (done) await sent("resume-stream", { resumeData: done.values.data })
  }, { class: "primary" }))
}

function decision(call, sent, edits) {
  return h(
    "div.actions",
    null,
    button("Approve", () => sent("approve-tool-call"), { class: "primary" }),
    edits(call.toolName) && button("Edit and approve…", async () => {
      const done = await ask({
        title: `Approve ${call.toolName} with other arguments`,
        fields: [{ name: "args", label: "Arguments (a JSON object)", kind: "json", value: call.args, required: true }], action: "Approve",
      })
      if (done) await sent("approve-tool-call", { args: done.values.args })
    }),
    button("Decline…", async () => {
      const done = await ask({ title: `Decline ${call.toolName}`, fields: [{ name: "reason", label: "Reason, which the model is told" }], action: "Decline", danger: true })
      if (done) await sent("decline-tool-call", done.values.reason ? { reason: done.values.reason } : {})
    }, { class: "danger" }),
  )
}

function schemaOf(text) {
  try {
    return typeof text === "string" ? JSON.parse(text) : text
  } catch {
    return undefined
  }
}

const BLANKS = { string: "", number: 0, integer: 0, boolean: false, array: [], object: {} }

/** What a form begins with: each property of a schema, empty. */
const blank = (schema) =>
  Object.fromEntries(Object.entries(schema?.properties ?? {}).map(([name, each]) => [name, each.default ?? BLANKS[each.type] ?? null]))

/** Sends an answer for which nobody reads on: a durable run goes on by itself, another one as long as it is listened to. */
export async function tell(path, route, body) {
  const response = await stream(`${path}/${route}`, body)
  await ((await engineRun(body.runId)) ? response.body?.cancel() : response.text())
}

// The run of the engine behind a run of an agent. A long thread names many: each is asked for once, when it is seen.

const MOST = 500
const known = new Map()
const wanted = new WeakMap()
const looking = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue
    looking.unobserve(target)
    const run = wanted.get(target)
    engineRun(run).then((id) => id && put(target, h("a", { href: to("runs", id), title: `Run ${id}` }, "The run behind it")))
  }
})

/** The id of the run that carries out a run of an agent; null where there is none, as for agents that are not durable. */
export function engineRun(run) {
  if (!known.has(run)) {
    if (known.size >= MOST) known.clear()
    const asked = get(`v2/agent-runs/${encodeURIComponent(run)}`).then(({ data }) => data.runId ?? null)
    // What is not known yet may be later.
    known.set(run, asked.catch(() => null).then((id) => (id === null && known.delete(run), id)))
  }
  return known.get(run)
}

/** The link to it. */
export function engineLink(run) {
  const link = h("span.dim", null, "run ", h("span.mono", null, run))
  wanted.set(link, run)
  looking.observe(link)
  return link
}
