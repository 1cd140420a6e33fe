// Runs: the list with its filters, live, and what is done to many of them at once.

import { allFunctions, get, may, post } from "../api.js"
import { ask } from "../dialog.js"
import { button, empty, failed, h, put, toast, to } from "../dom.js"
import { list } from "../list.js"
import { watch } from "../live.js"
import { badge, ENDED, isOver, STATUSES, took, word } from "../shapes.js"
import { time } from "../times.js"

const PAGE = 100
const KEPT = 5000 // rows that are kept; more are asked for again
const SPANS = { "15m": 15, "1h": 60, "24h": 1440, "7d": 10080 }

export async function show(root, { query, signal }) {
  const functions = await allFunctions(signal)
  const state = { runs: [], cursor: "", more: true, asking: false, chosen: new Set() }
  const rows = list({ row: (run) => row(run, state, counted), key: (run) => run.id, label: "Runs", onend: next })
  const note = h("div", { "aria-live": "polite" })
  const bulk = h("div.bulk", { hidden: true })
  const head = h(
    "div.head",
    null,
    h("h1", null, "Runs"),
    may() && button("Replay a time range…", () => replay(functions, query)),
  )
  put(root, head, filters(query, functions), bulk, note, rows)

  const asked = () => ({
    status: query.getAll("status"),
    functionId: query.get("function") ?? "",
    appId: query.get("app") ?? "",
    text: query.get("text") ?? "",
    query: query.get("where") ?? "",
    from: from(query),
    until: query.get("until") ? new Date(query.get("until")).toISOString() : "",
    limit: PAGE,
  })

  async function next() {
    if (state.asking || !state.more) return
    state.asking = true
    try {
      const answer = await get("v2/runs", { ...asked(), cursor: state.cursor }, signal)
      state.runs = merged(state.runs, answer.data)
      state.more = Boolean(answer.page.hasMore)
      state.cursor = answer.page.cursor ?? state.cursor
      draw()
    } catch (error) {
      if (error.name === "AbortError") return
      state.more = false
      put(note, failed(error, () => ((state.more = true), put(note), next())))
    } finally {
      state.asking = false
    }
    // A search looks at a thousand runs at a time, and may find few in them.
    if (state.more && state.runs.length < 20 && (query.get("text") || query.get("where"))) next()
  }

  /** Asks again for what is seen; at the top, new runs come in. */
  async function refresh() {
    const [first] = rows.seen
    const before = first < 5 ? "" : state.runs[first - 1]?.id
    const { data } = await get("v2/runs", { ...asked(), cursor: before }, signal)
    const known = new Map(state.runs.map((run) => [run.id, run]))
    const fresh = data.filter((run) => JSON.stringify(known.get(run.id)) !== JSON.stringify(run))
    // A run that no longer fits the filter leaves the list.
    const last = data.at(-1)?.id ?? ""
    const here = new Set(data.map((run) => run.id))
    const gone = state.runs.filter((run) => run.id >= last && (!before || run.id < before) && !here.has(run.id))
    if (!fresh.length && !gone.length) return
    if (!before && state.runs.length && data.length === PAGE && !data.some((run) => known.has(run.id))) {
      // More came than one page holds: the list begins anew, without a gap.
      Object.assign(state, { runs: data, cursor: last, more: true })
      return draw()
    }
    gone.forEach((run) => known.delete(run.id))
    state.runs = merged([...known.values()], fresh)
    if (state.runs.length > KEPT && first < KEPT / 2) {
      state.runs.length = KEPT
      state.cursor = state.runs.at(-1).id
      state.more = true
    }
    draw()
  }

  function draw() {
    rows.items = state.runs
    rows.hidden = !state.runs.length
    if (state.runs.length) put(note)
    else if (state.more) put(note, h("p.state", null, "Looking further back…"))
    else put(note, nothing(query))
    counted()
  }

  function counted() {
    const shown = state.runs.filter((run) => state.chosen.has(run.id))
    bulk.hidden = !shown.length
    if (!shown.length) return
    const open = shown.filter((run) => !isOver(run.status))
    const ended = shown.filter((run) => isOver(run.status))
    put(
      bulk,
      h("strong", null, `${shown.length} selected`),
      button("All that are loaded", () => (state.runs.forEach((run) => state.chosen.add(run.id)), again())),
      button("None", () => (state.chosen.clear(), again())),
      button(`Cancel ${open.length}`, () => each("cancel", open), { disabled: !open.length || !may(), class: "danger" }),
      button(`Rerun ${ended.length}`, () => each("rerun", ended), { disabled: !ended.length || !may() }),
    )
  }

  function again() {
    state.runs = state.runs.map((run) => ({ ...run }))
    draw()
  }

  async function each(what, runs) {
    const done = await ask({
      title: `${word(what.toUpperCase())} ${runs.length} runs?`,
      text: what === "cancel" ? "They end at once, and cannot be resumed." : "Each is started once more as a new run.",
      action: word(what.toUpperCase()),
      danger: what === "cancel",
    })
    if (!done) return
    let failures = 0
    const queue = [...runs]
    const work = async () => {
      for (let run = queue.pop(); run; run = queue.pop()) {
        await post(`v2/runs/${run.id}/${what}`).catch(() => failures++)
      }
    }
    await Promise.all([work(), work(), work(), work()])
    state.chosen.clear()
    toast(failures ? `${runs.length - failures} done, ${failures} refused` : `${runs.length} done`, failures ? "bad" : "")
    await refresh()
    again()
  }

  await next()
  watch(refresh, signal)
}

function merged(some, others) {
  const all = new Map(some.map((run) => [run.id, run]))
  others.forEach((run) => all.set(run.id, run))
  return [...all.values()].sort((a, b) => (a.id < b.id ? 1 : -1))
}

function row(run, state, counted) {
  const label = `Select the run ${run.id}`
  const box = h("input", { type: "checkbox", checked: state.chosen.has(run.id), "aria-label": label, "data-focus": "box" })
  box.addEventListener("change", () => {
    state.chosen[box.checked ? "add" : "delete"](run.id)
    counted()
  })
  return [
    may() ? box : null,
    badge(run.status),
    h("a.name", { href: to("runs", run.id), "data-focus": "name" }, run.function.name),
    h("span.dim.app", null, run.app.id),
    h("span.mono.dim.id", null, run.id),
    h("span.when", null, time(run.queuedAt)),
    h("span.took", null, took(run)),
  ]
}

function from(query) {
  const span = query.get("span")
  if (span in SPANS) return new Date(Date.now() - SPANS[span] * 60e3).toISOString()
  return query.get("from") ? new Date(query.get("from")).toISOString() : ""
}

function filters(query, functions) {
  const apps = [...new Set(functions.map((each) => each.app.id))].sort()
  const select = (name, label, options) =>
    h("label", null, h("span", null, label), h("select", { name }, ...options.map(([value, text]) =>
      h("option", { value, selected: (query.get(name) ?? "") === value }, text))))
  const field = (name, label, placeholder, type = "search") =>
    h("label", { class: type === "search" ? "wide" : "" }, h("span", null, label),
      h("input", { name, type, placeholder, value: query.get(name) ?? "", "data-filter": name === "text" }))
  const form = h(
    "form.filters",
    { role: "search", "aria-label": "Filter runs" },
    select("status", "Status", [["", "All"], ...STATUSES.map((each) => [each, word(each)])]),
    select("function", "Function", [["", "All"], ...functions.map((each) => [each.slug, each.name])]),
    select("app", "App", [["", "All"], ...apps.map((each) => [each, each])]),
    select("span", "Queued", [["", "Any time"], ["15m", "Last 15 minutes"], ["1h", "Last hour"], ["24h", "Last day"],
      ["7d", "Last week"]]),
    field("text", "Text", "in event or output"),
    field("where", "Expression", "event.data.total > 100"),
    h("details.more", { open: query.has("from") || query.has("until") }, h("summary", null, "From, until"),
      field("from", "From", "", "datetime-local"), field("until", "Until", "", "datetime-local")),
    h("button", { type: "submit" }, "Filter"),
    [...query.keys()].length > 0 && h("a.button", { href: "#/runs" }, "Clear"),
  )
  const apply = (event) => {
    event?.preventDefault()
    const chosen = [...new FormData(form)].filter(([, value]) => value)
    location.hash = `#/runs?${new URLSearchParams(chosen)}`
  }
  form.addEventListener("submit", apply)
  form.addEventListener("change", (event) => event.target.matches("select") && apply())
  return form
}

function nothing(query) {
  if ([...query.keys()].length) return empty("No run fits these filters.", h("a", { href: "#/runs" }, "Show all runs"))
  return empty(
    "Nothing has run yet.",
    h("p", null, "Send an event that triggers a function, or invoke one."),
    h("p", null, h("a", { href: "#/events" }, "Events"), " · ", h("a", { href: "#/functions" }, "Functions")),
  )
}

async function replay(functions, query) {
  const done = await ask({
    title: "Replay a time range",
    text: "Runs of a function that ended so, and were queued in this time, are started once more.",
    action: "Replay",
    fields: [
      { name: "slug", label: "Function", kind: "select", value: query.get("function") ?? "",
        options: functions.map((each) => [each.slug, each.name]) },
      { name: "from", label: "From", kind: "datetime-local", value: query.get("from") ?? "" },
      { name: "until", label: "Until", kind: "datetime-local", value: query.get("until") ?? "" },
      { name: "status", label: "Ended as", kind: "checks", value: ["FAILED"], options: ENDED.map((each) => [each, word(each)]) },
    ],
    act: ({ slug, from, until, status }) => {
      const chosen = functions.find((each) => each.slug === slug)
      if (!chosen) throw new Error("Choose a function")
      const body = { status }
      if (from) body.from = new Date(from).toISOString()
      if (until) body.until = new Date(until).toISOString()
      return post(`v2/apps/${encodeURIComponent(chosen.app.id)}/functions/${encodeURIComponent(chosen.id)}/replay`, body)
    },
  })
  if (done) toast(`${done.answer.data.runCount} runs started, ${done.answer.data.skippedCount} passed over`)
}
