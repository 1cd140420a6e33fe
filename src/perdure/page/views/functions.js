// The functions in force: what triggers each, and whether it is paused.

import { allFunctions } from "../api.js"
import { empty, h, put } from "../dom.js"
import { watch } from "../live.js"
import { changed, functionLink, table } from "../shapes.js"
import { time } from "../times.js"

export async function show(root, { signal }) {
  const shown = h("div.card")
  put(root, h("div.head", null, h("h1", null, "Functions")), shown)
  async function refresh() {
    const functions = await allFunctions(signal)
    if (!changed(shown, functions)) return
    put(shown, functions.length ? table("Functions", ["Function", "App", "Triggers", "State", ""], functions.map(row)) : nothing())
  }
  await refresh()
  watch(refresh, signal)
}

const row = (each) => [
  h("strong", null, functionLink(each.app.id, each.id, each.name)),
  each.app.id,
  each.triggers.map((trigger) => h("div.mono", null, trigger.value)),
  each.pausedAt ? h("span", null, "Paused ", time(each.pausedAt)) : "In force",
  h("a", { href: `#/runs?${new URLSearchParams({ function: each.slug })}` }, "Runs"),
]

const nothing = () =>
  empty("No function is in force.", h("p", null, "Start an app in this process (perdure dev app.py:app), or let one on another server register."),
    h("a", { href: "#/apps" }, "Apps"))
