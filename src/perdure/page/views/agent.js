// An agent: talk with it, its threads, what waits for a person, its background tasks, its details and versions.

import { answers, engineLink, tell } from "../answers.js"
import { get, may, post } from "../api.js"
import { chat } from "../chat.js"
import { ask } from "../dialog.js"
import { button, h, put, toast, to } from "../dom.js"
import { jsonView } from "../json.js"
import { watch } from "../live.js"
import { card, changed, facts, word } from "../shapes.js"
import { time } from "../times.js"
import { versions } from "./versions.js"

const MESSAGES = 100 // of a thread, shown at once
const RESOURCE = "page" // whose the threads are that begin here

const maybe = (asked) => asked.catch((error) => { if (error.status) return null; throw error })

export async function show(root, { params, query, signal }) {
  const id = params.agent
  const path = `api/agents/${encodeURIComponent(id)}`
  const [agent, memory] = await Promise.all([get(path, {}, signal), maybe(get("api/memory/status", { agentId: id }, signal))])
  const state = { thread: query.get("thread") ?? "", threads: [], pages: 1, agent }
  const [threads, waiting, tasks, about, head] = Array.from({ length: 5 }, () => h("div"))
  const edits = (tool) => Object.values(state.agent.tools ?? {}).some((each) => each.id === tool && each.editArgs)
  const talk = chat({ path, signal, thread: memoryOf, said, edits })
  describe()
  put(root, head, h("div.talk", null, h("aside", null, waiting, threads, tasks), talk.element), about, await versions(id, agent, signal, reread))

  function describe() {
    put(head, h("div.head", null, h("h1", null, state.agent.name ?? id), h("span.dim", null, [state.agent.provider, state.agent.modelId].filter(Boolean).join("/"))))
    put(about, details(id, state.agent))
  }

  async function reread() {
    state.agent = await get(path, {}, signal)
    describe()
  }

  function memoryOf() {
    if (!state.thread) return null
    return { thread: state.thread, resource: state.threads.find((each) => each.id === state.thread)?.resourceId ?? RESOURCE }
  }

  async function refresh() {
    const [kept, asked, beside] = await Promise.all([
      memory?.result && maybe(get("api/memory/threads", { agentId: id, perPage: 50, "orderBy[field]": "updatedAt" }, signal)),
      maybe(get(`${path}/suspended-runs`, { perPage: 50 }, signal)),
      maybe(get("api/background-tasks", { agentId: id, perPage: 20, orderDirection: "desc" }, signal)),
    ])
    state.threads = kept?.threads ?? []
    if (changed(threads, [kept, state.thread])) put(threads, threadList(kept?.threads, state.thread, choose))
    if (changed(waiting, asked)) put(waiting, questions(asked?.runs, path, edits, refresh))
    if (changed(tasks, beside)) put(tasks, taskList(beside?.tasks, refresh))
    const now = state.threads.find((each) => each.id === state.thread)?.updatedAt
    // Others write to the thread, too.
    if (now && now !== state.read && !talk.busy()) await read()
  }

  /** Reads the thread, and shows it if it is not what was read before; `top` goes to the beginning of what is there. */
  async function read({ shown = true, top = false } = {}) {
    const { thread } = state
    const updated = state.threads.find((each) => each.id === thread)?.updatedAt
    const asked = { agentId: id, perPage: MESSAGES * state.pages }
    const kept = await maybe(get(`api/memory/threads/${encodeURIComponent(thread)}/messages`, asked, signal))
    if (thread !== state.thread || talk.busy()) return
    state.read = updated
    if (changed(state, kept?.messages ?? []) && shown) talk.begin(kept?.messages ?? [], kept?.hasMore && button("Earlier messages", earlier), top)
  }

  async function earlier() {
    state.pages += 1
    await read({ top: true })
  }

  /** After a turn of this page, which is shown already: with its errors, which no thread keeps. */
  async function said() {
    if (state.thread) await read({ shown: false })
    await refresh()
  }

  async function choose(thread, isNew = false) {
    talk.leave()
    Object.assign(state, { thread, pages: 1, read: undefined, shown: undefined })
    history.replaceState(null, "", to("agents", id) + (thread ? `?${new URLSearchParams({ thread })}` : ""))
    if (!thread || isNew) talk.begin([])
    else await read()
    await refresh()
  }

  if (state.thread) await choose(state.thread)
  else await refresh()
  watch(refresh, signal)
}

function threadList(threads, chosen, choose) {
  const links = (threads ?? []).map((thread) =>
    h("li", null, button(thread.title || thread.id, () => choose(thread.id), { class: "quiet", "aria-pressed": String(chosen === thread.id) }), " ",
      h("small", null, thread.resourceId !== RESOURCE && `${thread.resourceId}, `, time(thread.updatedAt))))
  return card("Threads", h("div.actions", null,
    button("No thread", () => choose(""), { "aria-pressed": String(!chosen), title: "Nothing is kept" }),
    threads && button("New thread", () => choose(`thread-${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}`, true))),
  links.length ? h("ul.plain.long", { tabindex: "0", "aria-label": "Threads" }, ...links) : h("p.dim", null, threads ? "None is kept yet." : "This agent has no memory, so it keeps none."))
}

function questions(runs, path, edits, refresh) {
  if (!runs?.length) return null
  const send = async (route, body) => {
    await tell(path, route, body)
    await refresh()
  }
  return card("Waiting for a person", ...runs.flatMap((run) => run.toolCalls.map((call) =>
    h("div.attempts", null, h("div", null, h("strong", null, call.toolName), " ", h("small", null, "since ", time(run.suspendedAt)), jsonView(call.args ?? call.suspendPayload),
      h("p.turn", null, engineLink(run.runId)),
      may() && answers({ ...call, runId: run.runId }, path, send, edits))))))
}

function taskList(tasks, refresh) {
  if (!tasks?.length) return null
  return card("Background tasks", h("ul.plain.long", { tabindex: "0", "aria-label": "Background tasks" }, ...tasks.map((task) =>
    h("li", null, h("details", null,
      h("summary", null, h("strong", null, task.toolName), ` ${task.status} `, h("small", null, time(task.completedAt ?? task.createdAt))),
      jsonView({ args: task.args, ...(task.result === undefined ? {} : { result: task.result }), ...(task.error ? { error: task.error } : {}) }),
      task.runId && h("p.turn", null, engineLink(task.runId))),
    may() && task.status === "suspended" && button("Answer…", async () => {
      const done = await ask({
        title: `Answer ${task.toolName}`, fields: [{ name: "resumeData", label: "Data (JSON)", kind: "json", value: {}, required: true }],
        action: "Send", act: (values) => post(`api/background-tasks/${encodeURIComponent(task.id)}/resume`, values),
      })
      if (done) await refresh()
    }, { class: "quiet" }),
    may() && ["pending", "running", "suspended"].includes(task.status) && button("Cancel", async () => {
      await post(`api/background-tasks/${encodeURIComponent(task.id)}/cancel`).catch((error) => toast(error.message, "bad"))
      await refresh()
    }, { class: "quiet" })))))
}

function details(id, agent) {
  const names = (found) => Object.entries(found ?? {}).map(([key, each]) => each.name ?? key).join(", ")
  const listed = (found) => (found ?? []).map((each) => each.name ?? each.id).join(", ")
  return card("Details",
    facts([
      ["Id", h("span.mono", null, id)], ["Description", agent.description], ["Kept in", agent.source === "code" && agent.status ? "code, with versions over it" : agent.source],
      ["State", agent.status && word(agent.status)],
      ["Models, one after the other", agent.modelList?.map((each) => `${each.model.provider}/${each.model.modelId}`).join(", ")],
      ["Sub-agents", names(agent.agents)], ["Workflows", names(agent.workflows)],
      ["Input processors", listed(agent.inputProcessors)], ["Output processors", listed(agent.outputProcessors)],
    ]),
    h("details", null, h("summary", null, "Instructions"), h("pre", { tabindex: "0" }, typeof agent.instructions === "string" ? agent.instructions || "None." : JSON.stringify(agent.instructions, null, 2))),
    Object.keys(agent.defaultOptions ?? {}).length > 0 && h("details", null, h("summary", null, "Options of each run"), jsonView(agent.defaultOptions)),
    h("details", null, h("summary", null, `Tools (${Object.keys(agent.tools ?? {}).length})`), ...Object.values(agent.tools ?? {}).map(oneTool)))
}

const oneTool = (tool) =>
  h("div.call", null, h("strong", null, tool.id), tool.requireApproval && h("span.dim", null, " asks for approval"), tool.description && h("p", null, tool.description),
    jsonView(parsed(tool.inputSchema)))

function parsed(text) {
  try {
    const { $schema, ...schema } = JSON.parse(text).json
    return schema
  } catch {
    return text ?? null
  }
}
