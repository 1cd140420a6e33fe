// Signing in: a key once, then a cookie that this page's scripts cannot read.

import { signIn } from "../api.js"
import { h } from "../dom.js"

export function show(root, done) {
  const key = h("input", { type: "password", name: "key", required: true, autocomplete: "current-password" })
  const problem = h("p.bad", { role: "alert" })
  const form = h(
    "form.card.signin",
    {
      onsubmit: async (event) => {
        event.preventDefault()
        problem.textContent = ""
        try {
          await signIn(key.value.trim())
          await done()
        } catch (error) {
          problem.textContent = error.message
          key.select()
        }
      },
    },
    h("h1", null, "Sign in"),
    h("p", null, "This server has keys. Its signing key, or an API key (viewer, operator, admin), lets you in."),
    h("label", null, h("span", null, "Key"), key),
    problem,
    h("div.actions", null, h("button.primary", { type: "submit" }, "Sign in")),
  )
  root.append(form)
  key.focus()
}
