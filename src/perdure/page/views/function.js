// A function: triggers, configuration, who holds and who waits for each flow-control key, throughput and latency, ticks.

import { get, may, post } from "../api.js"
import { activityChart } from "../chart.js"
import { ask } from "../dialog.js"
import { button, h, put, toast, to } from "../dom.js"
import { watch } from "../live.js"
import { jsonView } from "../json.js"
import { badge, card, changed, facts, runLink, table } from "../shapes.js"
import { time } from "../times.js"

const HOURS = [[1, "hour"], [24, "day"], [168, "week"]]
const KINDS = { CONCURRENCY: "Concurrency", THROTTLE: "Throttle", PAUSED: "Paused or without code", APP: "Room at the app" }

export async function show(root, { params, signal }) {
  const path = `v2/apps/${encodeURIComponent(params.app)}/functions/${encodeURIComponent(params.function)}`
  const state = { hours: 1 }
  const head = h("div.head")
  const about = h("div")
  const flow = h("div")
  const activity = h("div")
  put(root, head, about, activity, flow)

  async function refresh() {
    const [one, keys, last] = await Promise.all([
      get(path, {}, signal),
      get(`${path}/flow`, {}, signal),
      get(`${path}/runs`, { limit: 5 }, signal),
    ])
    if (changed(head, one.data)) {
      put(head, h("h1", null, one.data.name, one.data.pausedAt && " (paused)"), may() && actions(path, one.data, refresh))
    }
    if (changed(about, [one.data, last.data])) put(about, h("div.grid", null, described(one.data), recent(one.data, last.data)))
    if (changed(flow, keys.data)) put(flow, flowControl(keys.data.keys), ticks(keys.data.nextTicks))
  }
  async function count() {
    const { data } = await get(`${path}/activity`, { hours: state.hours }, signal)
    if (changed(activity, [data, state.hours])) put(activity, throughput(data, state, count))
  }
  await Promise.all([refresh(), count()])
  watch(refresh, signal)
  // What is counted over many rows is not counted every second.
  watch(count, signal, 10_000)
}

function actions(path, one, refresh) {
  const act = (what, told) => async () => {
    try {
      await post(`${path}/${what}`)
      toast(told)
    } catch (error) {
      toast(error.message, "bad")
    }
    await refresh()
  }
  return h(
    "div.actions",
    null,
    button("Invoke…", async () => {
      const done = await ask({
        title: `Invoke ${one.name}`,
        fields: [{ name: "data", label: "Data (a JSON object)", kind: "json", value: {}, required: true }],
        action: "Invoke",
        act: ({ data }) => post(`${path}/invoke`, { data }),
      })
      if (done) location.hash = to("runs", done.answer.data.runId)
    }, { class: "primary" }),
    one.pausedAt ? button("Resume", act("resume", "Resumed")) : button("Pause", act("pause", "Paused: nothing starts it"), { class: "danger" }),
  )
}

const described = (one) =>
  card(
    "Configuration",
    facts([
      ["Slug", h("span.mono", null, one.slug)],
      ["App", one.app.id],
      ["Paused", time(one.pausedAt)],
      ["Triggers", one.triggers.map((each) => h("div", null, h("code", null, each.value), each.if && [" if ", h("code", null, each.if)]))],
    ]),
    jsonView(one.configuration),
  )

const recent = (one, runs) =>
  card(
    "Last runs",
    runs.length
      ? h("ul.plain", null, ...runs.map((run) => h("li", null, badge(run.status), " ", runLink(run.id), " ", time(run.queuedAt))))
      : h("p.dim", null, "It has not run yet."),
    h("p", null, h("a", { href: `#/runs?${new URLSearchParams({ function: one.slug })}` }, "All runs")),
  )

function flowControl(keys) {
  if (!keys.length) return card("Flow control", h("p.dim", null, "Nothing is held, and nobody waits."))
  const links = (each) => each.map((one) => h("div", null, runLink(one.runId), " since ", time(one.since)))
  return card(
    "Flow control: who holds, and who waits",
    table("Flow-control keys", ["Key", "Kind", "Limit", "Held by", "Waiting", "First in line"], keys.map((key) => [
      h("code", null, key.key), KINDS[key.kind], key.limit ?? "", links(key.holders), key.waiting, links(key.first),
    ])),
  )
}

function ticks(schedules) {
  if (!schedules.length) return null
  return card("Next ticks", ...schedules.map((each) =>
    h("div", null, h("code", null, each.cron), h("ul.plain", null, ...each.at.map((at) => h("li", null, time(at), h("span.dim", null, ` ${new Date(at).toLocaleString()}`)))))))
}

function throughput(data, state, refresh) {
  const choice = HOURS.map(([hours, word]) =>
    button(`Last ${word}`, () => ((state.hours = hours), refresh()), { "aria-pressed": String(state.hours === hours) }))
  return card("Throughput and latency", h("div.actions", null, ...choice), activityChart(data))
}
