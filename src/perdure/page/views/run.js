// A run: where it stands, what happened when, what each step got and gave, what it says while it goes on; and what can
// be done about it.

import { get, may, post } from "../api.js"
import { ask } from "../dialog.js"
import { button, copy, empty, failed, h, put, toast, to } from "../dom.js"
import { jsonView } from "../json.js"
import { list } from "../list.js"
import { watch } from "../live.js"
import { badge, card, changed, facts, functionLink, isOver, runLink, took } from "../shapes.js"
import { duration, time } from "../times.js"
import { bars, places } from "../waterfall.js"
import { showStep } from "./step.js"

const ENDED_PAUSE = 15_000 // between two looks at a run that has ended

export async function show(root, { params, query, signal }) {
  const id = params.run
  const state = { told: null, step: query.get("step") }
  const head = h("div.head")
  const about = h("div")
  const waits = h("div")
  const detail = h("div.card", { hidden: true, "aria-live": "polite" })
  const rows = list({
    row: (item) => stepRow(item, state, choose),
    key: (item) => item.step.id,
    label: "Steps in the order in which they began",
  })
  const steps = h("div.steps", null, rows, detail)
  const outcome = h("div")
  const said = h("div")
  put(root, head, about, waits, h("h2", null, "Timeline"), steps, outcome, said)

  async function refresh() {
    // What has ended gets notes at most: a long timeline is not asked for again every second.
    if (state.told && isOver(state.told.run.status) && Date.now() - state.at < ENDED_PAUSE) return
    state.at = Date.now()
    const { data } = await get(`v2/runs/${id}/steps`, {}, signal)
    const before = state.told
    state.told = data
    if (changed(head, data.run)) drawHead()
    if (changed(waits, [data.driver, data.attempts, data.notes])) put(waits, driver(data), attempts(data), notes(data))
    drawSteps(before)
    if (data.streamed && !state.follows) {
      state.follows = true
      import("../stream.js").then(({ follow }) => follow(said, id, signal))
    }
    if (state.step && changed(detail, data.steps.find((step) => step.id === state.step))) await drawDetail()
  }

  function drawHead() {
    const { run, events } = state.told
    put(head, h("h1", null, run.function.name, " ", badge(run.status)), actions(run), problem(run))
    drawTimes()
    put(outcome, result(run), input(events))
  }

  function drawTimes() {
    const { run } = state.told
    put(
      about,
      card(
        null,
        facts([
          ["Run", h("span", null, h("span.mono", null, run.id), " ", button("Copy", () => copy(run.id), { class: "quiet" }))],
          ["Function", functionLink(run.app.id, run.function.id, run.function.name)],
          ["App", run.app.id],
          ["Trigger", trigger(run)],
          ["Queued", time(run.queuedAt)],
          ["Started", time(run.startedAt)],
          ["Ended", time(run.endedAt)],
          ["Waited in the queue", run.startedAt && duration(Date.parse(run.startedAt) - Date.parse(run.queuedAt))],
          ["Took", took(run)],
          ["Rerun of", run.originalRunId && runLink(run.originalRunId)],
          ["Invoked by", run.parentRunId && runLink(run.parentRunId)],
        ]),
      ),
    )
  }

  function drawSteps(before) {
    const { run, steps: found } = state.told
    if (!found.length) {
      steps.hidden = true
      if (!before) steps.before(empty("No step has begun.", h("p", null, "Steps of apps on other servers, and of other nodes, show when they have ended, wait or failed.")))
      return
    }
    if (steps.hidden) steps.previousElementSibling.remove()
    steps.hidden = false
    const known = new Map(rows.items.map((item) => [item.step.id, item]))
    rows.items = places(run, found).map((item) => {
      const old = known.get(item.step.id)
      return old && JSON.stringify(old) === JSON.stringify(item) ? old : item
    })
    rows.style.height = `calc(var(--row) * ${Math.min(found.length, 18)} + 4px)`
  }

  async function choose(step) {
    state.step = state.step === step ? null : step
    history.replaceState(null, "", to("runs", id) + (state.step ? `?step=${state.step}` : ""))
    rows.items = rows.items.map((item) => ({ ...item }))
    await drawDetail()
  }

  async function drawDetail() {
    steps.classList.toggle("open", Boolean(state.step))
    detail.hidden = !state.step
    if (!state.step) return
    try {
      const { data } = await get(`v2/runs/${id}/steps/${encodeURIComponent(state.step)}`, {}, signal)
      put(detail, showStep(state.told.run, data, { refresh, close: () => choose(state.step) }))
    } catch (error) {
      if (error.name !== "AbortError") put(detail, failed(error))
    }
  }

  await refresh()
  watch(refresh, signal)
  if (state.step) await drawDetail()
}

function actions(run) {
  if (!may()) return null
  const over = isOver(run.status)
  return h(
    "div.actions",
    null,
    !over && button("Cancel…", async () => {
      const done = await ask({
        title: "Cancel this run?",
        text: "It ends at once. A step that executes right now is not recorded.",
        action: "Cancel the run",
        danger: true,
        act: () => post(`v2/runs/${run.id}/cancel`),
      })
      if (done) toast("Cancelled")
    }, { class: "danger" }),
    button("Rerun", async () => {
      try {
        const { data } = await post(`v2/runs/${run.id}/rerun`)
        toast("A new run was started")
        location.hash = to("runs", data.runId)
      } catch (error) {
        toast(error.message, "bad")
      }
    }),
  )
}

function trigger(run) {
  if (run.trigger.cron) return `Cron ${run.trigger.cron}`
  const ids = run.trigger.eventIds
  return h("span", null, h("a.mono", { href: to("events", ids[0]) }, ids[0]), ids.length > 1 && ` and ${ids.length - 1} more`)
}

function driver({ driver, run }) {
  if (!driver || isOver(run.status)) return null
  const told = {
    SCHEDULED: ["It goes on at a time: ", time(driver.dueAt)],
    READY: ["It is ready, and waits for a node that has room."],
    BLOCKED: ["It waits for room under the key ", h("code", null, driver.blockedOn), ": the function's page shows who holds it."],
    PARKED: ["Everything in it waits: for a time, an event, a signal, another run, or its next attempt."],
    LEASED: ["It executes right now."],
  }[driver.state]
  return told ? h("p.note", null, ...told) : null
}

function attempts({ run, attempts }) {
  // The only attempt of a run that failed says what its error says.
  if (attempts.length < (run.status === "FAILED" ? 2 : 1)) return null
  const each = attempts.map((attempt) =>
    h("div", null, h("strong", null, `Attempt ${attempt.attempt + 1}`), " ", time(attempt.endedAt), jsonView(attempt.error)))
  return card("Attempts of the function that failed", h("div.attempts", null, ...each))
}

function notes({ notes }) {
  if (!notes.length) return null
  return card("Notes", ...notes.map((note) => h("div", null, h("strong", null, note.kind), " ", time(note.updatedAt), jsonView(note.values))))
}

function problem({ status, output }) {
  if (status !== "FAILED" || output === undefined) return null
  return h("p.bad.problem", null, h("strong", null, `${output?.name ?? "Error"}: ${output?.message ?? output}`))
}

function result(run) {
  if (run.output === undefined) return null
  const bad = run.status === "FAILED"
  const stack = bad && run.output?.stack
  return card(
    bad ? "Error" : "Output",
    stack && h("pre", { tabindex: "0" }, stack),
    jsonView(run.output),
  )
}

const input = (events) =>
  card(events.length > 1 ? `Input: ${events.length} events` : "Input", ...events.map((event) =>
    h("div", null, h("strong", null, event.name), " ", time(new Date(event.ts).toISOString()), jsonView(event.data))))

function stepRow({ step, ...place }, state, choose) {
  const title = step.attempts.length ? `${step.name} (attempt ${step.attempt + 1})` : step.name
  return [
    button(step.name, () => choose(step.id), {
      class: place.beside ? "name beside" : "name",
      title: place.beside ? `${title}: in parallel` : title,
      "aria-expanded": String(state.step === step.id),
      "data-focus": "name",
    }),
    badge(step.status),
    step.waitsFor && h("span.dim.for", null, "for ", step.waitsFor),
    bars(step, place),
    h("span.took", null, step.dueAt ? time(step.dueAt) : took(step)),
  ]
}
