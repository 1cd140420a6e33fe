// Endpoints: requests that became runs, by domain and path.

import { every, get } from "../api.js"
import { empty, h, put } from "../dom.js"
import { watch } from "../live.js"
import { badge, card, changed, functionLink, runLink, table, took } from "../shapes.js"
import { time } from "../times.js"

export async function show(root, { signal }) {
  const shown = h("div")
  put(root, h("div.head", null, h("h1", null, "Endpoints")), shown)
  async function refresh() {
    const apps = (await every("v2/apps", {}, signal)).filter((app) => app.method === "API")
    const calls = await Promise.all(apps.map((app) => get("v2/runs", { appId: app.id, limit: 20 }, signal)))
    const found = apps.map((app, i) => [app, calls[i].data])
    if (changed(shown, found)) put(shown, found.length ? found.map(([app, runs]) => domain(app, runs)) : nothing())
  }
  await refresh()
  watch(refresh, signal)
}

const domain = (app, runs) =>
  card(app.name ?? app.id,
    runs.length
      ? table(`Calls of ${app.id}`, ["State", "Endpoint", "Run with its stream", "Called", "Took"], runs.map((run) => [
        badge(run.status), functionLink(app.id, run.function.id, run.function.name), runLink(run.id), time(run.queuedAt), took(run),
      ]))
      : h("p.dim", null, "No call is kept."),
    h("p", null, h("a", { href: `#/runs?${new URLSearchParams({ app: app.id })}` }, "All calls")))

const nothing = () =>
  empty("No endpoint has been called.", h("p", null, "A request to a durable endpoint shows here once it has a step: see perdure.serve and endpoints in the documentation."))
