// The whole: nodes, queues, the store, retention, versions, and what should not be there.

import { get } from "../api.js"
import { activityChart } from "../chart.js"
import { h, put } from "../dom.js"
import { watch } from "../live.js"
import { card, changed, facts, table, word } from "../shapes.js"
import { time } from "../times.js"

export async function show(root, { signal }) {
  const shown = h("div.grid")
  const over = h("div")
  put(root, h("div.head", null, h("h1", null, "System")), shown, over)
  async function refresh() {
    const { data } = await get("v2/system", {}, signal)
    if (changed(shown, data)) put(shown, health(data), queues(data), store(data), nodes(data))
  }
  async function count() {
    const { data } = await get("v2/activity", { hours: 1 }, signal)
    if (changed(over, data)) put(over, card("The last hour", activityChart(data)))
  }
  await Promise.all([refresh(), count()])
  // What is counted over many rows is not counted every second.
  watch(refresh, signal, 3000)
  watch(count, signal, 10_000)
}

function health(data) {
  const lost = Object.entries(data.unregistered)
  const problems = [
    data.orphans && `${data.orphans} runs have no next wake-up: that is a defect; run perdure doctor.`,
    data.leakedSlots && `${data.leakedSlots} slots have no owner: that is a defect; run perdure doctor.`,
    ...lost.map(([slug, count]) => `${count} runs wait for ${slug}, which no app has registered: start its app.`),
    ...data.paused.map((slug) => `${slug} is paused.`),
  ].filter(Boolean)
  return card("Health", problems.length ? h("ul", null, ...problems.map((each) => h("li", null, each))) : h("p", null, "Everything is as it should be."),
    facts([["perdure", data.version], ["Python", data.python], ["Functions", String(data.functions)]]))
}

const queues = (data) =>
  card("Queues", facts([
    ["Executing here", String(data.executing)],
    ["Parked in memory here", String(data.parked)],
    ["Oldest ready job", data.oldestReadyAt ? time(data.oldestReadyAt) : "none waits"],
    ...Object.entries(data.jobs).map(([state, count]) => [`Jobs ${state}`, String(count)]),
  ]))

const store = (data) =>
  card("Store", facts([
    ["Size", size(data.storeBytes)],
    ...Object.entries(data.runs).map(([status, count]) => [`Runs ${status}`, count.toLocaleString()]),
    ...Object.entries(data.retention).map(([what, kept]) => [`${word(what)} kept for`, kept ?? "ever"]),
  ]))

const nodes = (data) =>
  card("Nodes", table("Nodes", ["Node", "State", "Lease until"], data.nodes.map((node) => [
    h("span.mono", null, node.id), node.alive ? "Alive" : "Gone", time(node.aliveUntil) ?? "as long as its process",
  ])))

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"]
  let at = 0
  for (; bytes >= 1024 && at < units.length - 1; at++) bytes /= 1024
  return `${bytes < 10 && at ? bytes.toFixed(1) : Math.round(bytes)} ${units[at]}`
}
