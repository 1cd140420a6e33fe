// An event, the runs that it started, and how to send it again from elsewhere.

import { address, get, may } from "../api.js"
import { button, copy, empty, h, put } from "../dom.js"
import { jsonView } from "../json.js"
import { watch } from "../live.js"
import { badge, card, changed, facts, functionLink, runLink, table, took } from "../shapes.js"
import { time } from "../times.js"
import { sendEvent } from "./events.js"

export async function show(root, { params, signal }) {
  const { data: event } = await get(`v1/events/${params.event}`, {}, signal)
  const runs = h("div")
  put(root, 
    h("div.head", null, h("h1", null, event.name), may() && button("Send again…", () => sendEvent(event))),
    card(null, facts([
      ["Internal id", h("span.mono", null, event.internal_id)],
      ["Id", h("span.mono", null, event.id)],
      ["Received", time(event.received_at)],
      ["Happened", time(new Date(event.ts).toISOString())],
      ["Version", event.v],
    ])),
    runs,
    card("Data", jsonView(event.data)),
    event.user && card("User", jsonView(event.user)),
    card("Send it from elsewhere", ...snippets(event)),
  )

  async function refresh() {
    const { data } = await get(`v2/events/${params.event}/runs`, { limit: 40 }, signal)
    if (changed(runs, data)) put(runs, card("Runs", data.length ? started(data) : empty("It started no run.",
      h("p", null, "No function in force had it as a trigger, or flow control passed it over."))))
  }
  await refresh()
  watch(refresh, signal)
}

const started = (runs) =>
  table("Runs that it started", ["Status", "Function", "Run", "Queued", "Took"], runs.map((run) => [
    badge(run.status), functionLink(run.app.id, run.function.id, run.function.name), runLink(run.id), time(run.queuedAt), took(run),
  ]))

/** The event for a shell, for Python and for TypeScript; the key is left to who sends. */
export function snippets({ name, data, user }) {
  const event = { name, data, ...(user && Object.keys(user).length ? { user } : {}) }
  const json = JSON.stringify(event)
  const base = address("").replace(/\/$/, "")
  const texts = {
    curl: `curl -s ${base}/e/$PERDURE_EVENT_KEY -H 'content-type: application/json' -d '${json.replaceAll("'", `'\\''`)}'`,
    Python: `import json\n\nfrom perdure.client import Client\n\nasync with Client(${JSON.stringify(base)}) as client:\n` +
      `    await client.send(json.loads(${JSON.stringify(json)}))`,
    TypeScript: `import { Inngest } from "inngest"\n\nconst inngest = new Inngest({ id: "sender", baseUrl: ${JSON.stringify(base)} })\n` +
      `await inngest.send(${JSON.stringify(event, null, 2)})`,
  }
  return Object.entries(texts).map(([title, text]) =>
    h("details", null, h("summary", null, title), button("Copy", () => copy(text), { class: "quiet" }), h("pre", { tabindex: "0" }, text)))
}
