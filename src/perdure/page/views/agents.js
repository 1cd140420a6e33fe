// The agents that the apps of the server offer, in code or stored.

import { get, may, patch, post } from "../api.js"
import { ask } from "../dialog.js"
import { button, empty, h, put, toast, to } from "../dom.js"
import { watch } from "../live.js"
import { card, changed, facts } from "../shapes.js"

export async function show(root, { signal }) {
  const shown = h("div.grid")
  const archived = h("div")
  put(root, h("div.head", null, h("h1", null, "Agents"), may("admin") && button("New stored agent…", store)), shown, archived)
  async function refresh() {
    const [agents, kept] = await Promise.all([
      get("api/agents", { partial: true }, signal),
      get("api/stored/agents", { status: "archived", perPage: 100 }, signal),
    ])
    if (changed(archived, kept)) put(archived, archive(kept.agents, refresh))
    if (!changed(shown, agents)) return
    const found = Object.entries(agents)
    put(shown, found.length ? found.map(one) : nothing())
  }
  await refresh()
  watch(refresh, signal)
}

const one = ([id, agent]) =>
  h("section.card", null, h("h2", null, h("a", { href: to("agents", id) }, agent.name ?? id)), agent.description && h("p", null, agent.description),
    facts([
      ["Model", [agent.provider, agent.modelId].filter(Boolean).join("/")],
      ["Tools", Object.keys(agent.tools ?? {}).join(", ")],
      ["Kept in", agent.source],
    ]))

/** Agents that are no longer offered, and can be again. */
function archive(agents, refresh) {
  if (!agents.length) return null
  return card("Archived", h("ul.plain", null, ...agents.map((agent) => h("li", null, h("strong", null, agent.name || agent.id), " ", h("span.mono.dim", null, agent.id), " ",
    may("admin") && button("Offer again", async () => {
      await patch(`api/stored/agents/${encodeURIComponent(agent.id)}`, { status: "published" }).catch((error) => toast(error.message, "bad"))
      await refresh()
    })))))
}

const nothing = () => empty("No app offers an agent.", h("p", null, "A durable agent shows here by itself; others are offered with app.add_agent(agent)."))

async function store() {
  const done = await ask({
    title: "A new stored agent",
    text: "It is data: edited here while the server runs, each edit a version.",
    fields: [
      { name: "id", label: "Id", required: true },
      { name: "name", label: "Name", required: true },
      { name: "instructions", label: "Instructions", kind: "area" },
      { name: "model", label: "Model, as provider/name", required: true, hint: "One that the app has added, or of a provider." },
      { name: "more", label: "More (JSON: tools, memory and so on)", kind: "json", value: "" },
    ],
    action: "Make it",
    act: ({ model, more, ...given }) => {
      const [provider, ...name] = model.split("/")
      return post("api/stored/agents", { ...given, model: { provider, name: name.join("/") }, ...more })
    },
  })
  if (done) location.hash = to("agents", done.values.id)
}
