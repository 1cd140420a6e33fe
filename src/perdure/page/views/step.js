// One step of a run in full: what it got, what it gave, its attempts side by side, and what can be done to it.

import { may, post } from "../api.js"
import { ask } from "../dialog.js"
import { button, h, toast, to } from "../dom.js"
import { jsonView } from "../json.js"
import { badge, facts, isOver, runLink, took } from "../shapes.js"
import { time } from "../times.js"

const RESTS = ["WAITING", "RETRYING"]

export function showStep(run, step, { refresh, close }) {
  const options = step.options ?? {}
  return [
    h("div.head", null, h("h2", null, step.name, " ", badge(step.status)), button("Close", close, { class: "quiet" })),
    facts([
      ["Kind", step.op.replaceAll("_", " ").toLowerCase()],
      ["Hash", h("span.mono", null, step.id)],
      ["Started", time(step.startedAt)],
      ["Ended", time(step.endedAt)],
      ["Took", took(step)],
      ["Attempts", step.attempts.length ? step.attempt + 1 : null],
      ["Waits for", options.event ?? options.signal ?? options.function_id],
      ["If", options.if && h("code", null, options.if)],
      ["Until", time(step.dueAt)],
      ["Run", step.invokedRunId && runLink(step.invokedRunId)],
    ]),
    may() && actions(run, step, refresh),
    part("Error", step.error),
    part("Output", step.output),
    part("Input", options.input ?? options.data ?? options.events ?? options.body),
    tried(step),
  ]
}

const part = (title, value) => (value === undefined ? null : h("div", null, h("h3", null, title), jsonView(value)))

function tried(step) {
  if (!step.attempts.length) return null
  const each = step.attempts.map((attempt) =>
    h("div", null, h("strong", null, `Attempt ${attempt.attempt + 1}`), " ", time(attempt.endedAt), jsonView(attempt.error)))
  return h("div", null, h("h3", null, "Attempts that failed"), h("div.attempts", null, ...each))
}

function actions(run, step, refresh) {
  const path = `v2/runs/${run.id}/steps/${encodeURIComponent(step.id)}`
  const rests = RESTS.includes(step.status) && !isOver(run.status)
  if (step.status === "RUNNING") return h("p.note", null, "It executes right now: let it end, or cancel the run.")
  return h(
    "div.actions",
    null,
    rests && button(step.status === "RETRYING" ? "Try now" : "Wake now", async () => {
      const done = await ask({ ...wording(step), act: () => post(`${path}/wake`) })
      if (done) await refresh()
    }),
    rests && button("Skip with a value…", async () => {
      const sleeps = step.op === "SLEEP"
      const done = await ask({
        title: "Skip this step?",
        text: sleeps ? "The sleep ends, and gives nothing." : "The step ends with this value, and the run goes on.",
        fields: sleeps ? [] : [{ name: "data", label: label(step), kind: "json", value: "" }],
        action: "Skip",
        act: ({ data }) => post(`${path}/skip`, data === undefined ? {} : { data }),
      })
      if (done) await refresh()
    }),
    button("Rerun from here…", async () => {
      const input = step.options?.input
      const done = await ask({
        title: "Rerun from this step?",
        text: "A new run keeps what was recorded before this step, and does it and later ones again.",
        fields: [{
          name: "input", label: "Other arguments (a JSON list; empty keeps them)", kind: "json", value: input,
          hint: "Only steps of apps on other servers take other arguments.",
        }],
        action: "Rerun",
        act: ({ input: given }) => {
          const edited = given !== undefined && JSON.stringify(given) !== JSON.stringify(input)
          return post(`v2/runs/${run.id}/rerun`, { fromStep: { stepId: step.id, ...(edited ? { input: given } : {}) } })
        },
      })
      if (done) {
        toast("A new run was started")
        location.hash = to("runs", done.answer.data.runId)
      }
    }),
  )
}

function label(step) {
  if (step.op === "WAIT_FOR_EVENT") return "Data of the event (a JSON object)"
  if (step.op === "WAIT_FOR_SIGNAL") return "Data of the signal (JSON)"
  return "Value (JSON; empty is null)"
}

function wording(step) {
  if (step.status === "RETRYING") return { title: "Attempt this step now?", text: "It does not wait for its backoff.", action: "Try now" }
  if (step.op === "SLEEP") return { title: "End this sleep?", text: "The run goes on now.", action: "Wake" }
  return { title: "End this wait?", text: "The step times out now, as if nothing had come.", action: "Wake" }
}
