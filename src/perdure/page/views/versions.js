// Versions of an agent that is data: what changed between any two, which is in force, and a draft with other values.

import { get, may, patch, post, remove } from "../api.js"
import { ask } from "../dialog.js"
import { button, h, put, toast, to } from "../dom.js"
import { jsonView } from "../json.js"
import { time } from "../times.js"

const MOST = 100 // more than the server keeps
const NOT_COMPARED = ["id", "agentId", "versionNumber", "createdAt", "changedFields", "changeMessage"]

/** The part of an agent's page; `drawn` is called when the agent has become another one. */
export async function versions(id, agent, signal, drawn) {
  const path = `api/stored/agents/${encodeURIComponent(id)}`
  const root = h("section.card")
  const state = { open: new Set() }
  async function draw() {
    const [now, all] = await Promise.all([known ? get(path, {}, signal) : null, get(`${path}/versions`, { perPage: MOST }, signal)])
    put(root, head(path, id, now, all.versions, redraw), all.versions.length
      ? h("ul.plain", null, ...all.versions.map((version, i) => one(path, version, i, all.versions, now, state, redraw)))
      : none(agent))
  }
  let known = agent.source !== "code" || Boolean(agent.status)
  async function redraw() {
    known = true
    await draw()
    await drawn()
  }
  await draw()
  return root
}

const none = (agent) =>
  h("p.dim", null, agent.source === "code" ? "This agent is declared in code. A version would be laid over that: other instructions, more tools." : "There is none yet.")

function head(path, id, now, all, redraw) {
  const begin = async () => {
    await post(`${path}/versions`, {}).then(redraw, (error) => toast(error.message, "bad"))
  }
  return h("div.head", null, h("h2", null, "Versions"), may("admin") && h("div.actions", null,
    !now && button("Make a version", begin),
    now && button("Edit…", () => edit(path, all[0] ?? now, redraw)),
    now && now.status !== "archived" && button("Archive…", () => archive(path)),
    now && button("Delete…", () => destroy(path, id), { class: "danger" })))
}

function one(path, version, i, all, now, state, redraw) {
  const active = version.id === now?.activeVersionId
  const act = (does) => async () => {
    await does().then(redraw, (error) => toast(error.message, "bad"))
  }
  const shown = h("div")
  const made = h("details", { open: state.open.has(version.id) },
    h("summary", null, `Version ${version.versionNumber ?? version.id} `, active && h("strong", null, "in force "), time(version.createdAt), version.changeMessage && ` ${version.changeMessage}`),
    shown,
    may("admin") && h("div.actions", null,
      !active && button("Activate", act(() => post(`${path}/versions/${encodeURIComponent(version.id)}/activate`))),
      !active && i > 0 && button("Copy to a new version", act(() => post(`${path}/versions/${encodeURIComponent(version.id)}/restore`))),
      !active && button("Delete", act(() => remove(`${path}/versions/${encodeURIComponent(version.id)}`)), { class: "danger" })))
  const fill = () => {
    state.open[made.open ? "add" : "delete"](version.id)
    if (made.open && !shown.firstChild) put(shown, comparison(version, all[i + 1], all))
  }
  made.addEventListener("toggle", fill)
  fill()
  return h("li", null, made)
}

/** What a version changes in another one, which may be chosen. */
function comparison(version, older, all) {
  const others = all.filter((each) => each !== version)
  const root = h("div")
  const draw = (other) => put(root, other ? changes(other, version) : h("div", null, h("h3", null, "Everything in it"), jsonView(config(version))))
  draw(older)
  if (!others.length) return root
  const chosen = h("select", { "aria-label": "Compared with" },
    h("option", { value: "", selected: !older }, "nothing"),
    ...others.map((each) => h("option", { value: each.id, selected: each === older }, `version ${each.versionNumber}`)))
  chosen.addEventListener("change", () => draw(others.find((each) => each.id === chosen.value)))
  return [h("label", null, h("span.dim", null, "Compared with "), chosen), root]
}

const config = (version) => Object.fromEntries(Object.entries(version).filter(([name]) => !NOT_COMPARED.includes(name)))

function changes(before, after) {
  const [old, now] = [config(before), config(after)]
  const names = [...new Set([...Object.keys(old), ...Object.keys(now)])].filter((name) => text(old[name]) !== text(now[name]))
  if (!names.length) return h("p.dim", null, "They are the same.")
  return names.map((name) => h("div", null, h("h3", null, name), diff(text(old[name]), text(now[name]))))
}

const text = (value) => (typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value, null, 2))

/** What changed between two texts, line by line. */
function diff(before, after) {
  const [old, now] = [before, after].map((each) => (each ? each.split("\n") : []))
  if (old.length * now.length > 4e6) return h("div", null, h("p.dim", null, "Too long to be compared by lines."), h("pre", { tabindex: "0" }, after))
  const common = Array.from({ length: old.length + 1 }, () => new Uint16Array(now.length + 1))
  for (let i = old.length - 1; i >= 0; i--)
    for (let j = now.length - 1; j >= 0; j--)
      common[i][j] = old[i] === now[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1])
  const lines = []
  for (let i = 0, j = 0; i < old.length || j < now.length; ) {
    if (i < old.length && j < now.length && old[i] === now[j]) lines.push(h("div", null, `  ${now[j++]}`)), i++
    else if (j === now.length || (i < old.length && common[i + 1][j] >= common[i][j + 1])) lines.push(h("del", null, "- " + old[i++]))
    else lines.push(h("ins", null, "+ " + now[j++]))
  }
  return h("pre.diff", { tabindex: "0" }, ...lines)
}

const EDITED = ["model", "tools", "agents", "workflows", "memory", "scorers", "inputProcessors", "outputProcessors", "defaultOptions"]

/** What else can be edited of a stored agent, as far as it has it. */
const others = (stored) =>
  Object.fromEntries([...EDITED, ...(typeof stored.instructions === "object" ? ["instructions"] : [])]
    .filter((name) => stored[name] !== undefined && stored[name] !== null).map((name) => [name, stored[name]]))

async function edit(path, stored, redraw) {
  const done = await ask({
    title: "Edit the agent", text: "Saving makes a version of the newest one; activate it to put it in force.",
    fields: [
      { name: "name", label: "Name", value: stored.name ?? "" },
      { name: "description", label: "Description", value: stored.description ?? "" },
      typeof (stored.instructions ?? "") === "string" && { name: "instructions", label: "Instructions", kind: "area", value: stored.instructions ?? "" },
      { name: "more", label: "Other fields (JSON)", kind: "json", value: others(stored), hint: `One or more of ${EDITED.join(", ")}.` },
      { name: "changeMessage", label: "What this changes" },
    ].filter(Boolean),
    action: "Save",
    act: ({ more, changeMessage, ...values }) => patch(path, { ...values, ...more, ...(changeMessage ? { changeMessage } : {}) }),
  })
  if (done) await redraw()
}

async function archive(path) {
  const done = await ask({
    title: "Archive this agent?", text: "It is no longer offered, and keeps its versions and threads. The list of agents brings it back.",
    action: "Archive", act: () => patch(path, { status: "archived" }),
  })
  if (done) location.hash = to("agents")
}

async function destroy(path, id) {
  const done = await ask({
    title: `Delete ${id}?`, text: "Its versions are gone for good; runs that go on end as they began. An agent that is declared in code stays, as the code says.",
    action: "Delete for good", danger: true, act: () => remove(path),
  })
  if (done) location.hash = to("agents")
}
