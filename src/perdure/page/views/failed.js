// The inbox of what failed: runs grouped by function and error, the newest first, and each group rerun at once.

import { get, may, post } from "../api.js"
import { ask } from "../dialog.js"
import { button, empty, h, put, toast } from "../dom.js"
import { watch } from "../live.js"
import { changed, functionLink, runLink } from "../shapes.js"
import { time } from "../times.js"

export async function show(root, { signal }) {
  const shown = h("div")
  const more = h("div")
  put(root, h("div.head", null, h("h1", null, "Failed")), shown, more)
  const state = { cursor: "" }

  async function refresh() {
    const { data, page } = await get("v2/failures", { cursor: state.cursor }, signal)
    if (!changed(shown, data)) return
    put(shown, data.length ? data.map(group) : empty("Nothing has failed.", h("p", null, "Failed runs are grouped here by their error.")))
    const older = () => ((state.cursor = page.cursor), refresh())
    const newest = () => ((state.cursor = ""), refresh())
    put(more, h("div.actions", null, state.cursor && button("Newest", newest), page.hasMore && button("Older failures", older)))
  }
  await refresh()
  watch(refresh, signal)
}

function group(each) {
  const first = each.runIds.slice(0, 5)
  return h(
    "section.card",
    null,
    h("div.head", null,
      h("h2", null, h("span.bad", null, each.error.name), " in ", functionLink(each.app.id, each.function.id, each.function.name)),
      may() && button(`Rerun ${each.runIds.length}`, () => rerun(each))),
    h("p.mono", null, each.error.message),
    h("p", null, `${each.count} ${each.count === 1 ? "run" : "runs"}, last `, time(each.lastAt), each.count > 1 && [", first ", time(each.firstAt)]),
    h("ul.plain", null, ...first.map((id) => h("li", null, runLink(id)))),
    each.runIds.length > first.length && h("p.dim", null, `and ${each.count - first.length} more`),
  )
}

async function rerun(each) {
  const done = await ask({ title: `Rerun ${each.runIds.length} runs?`, text: each.error.message, action: "Rerun" })
  if (!done) return
  let refused = 0
  for (const id of each.runIds) await post(`v2/runs/${id}/rerun`).catch(() => refused++)
  toast(refused ? `${refused} were refused` : "Started once more", refused ? "bad" : "")
}
