// Questions to the user: a dialog with fields, which answers what was put in, or null.

import { button, h } from "./dom.js"

/**
 * Asks. `fields`: `{name, label, kind: "text" | "json" | "area" | "select" | "datetime-local" | "checks", value, options, hint,
 * required}`. With `act` the dialog stays open until that has worked, and shows why it did not.
 */
export function ask({ title, text, fields = [], action = "OK", danger = false, act = async () => {} }) {
  return new Promise((resolve) => {
    const inputs = fields.map((field) => [field, control(field)])
    const problem = h("p.bad", { role: "alert" })
    const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, action)
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", { id: "dialog-title" }, title),
      text && h("p", null, text),
      inputs.map(([field, input]) =>
        field.kind === "checks"
          ? input
          : h("label", null, h("span", null, field.label), input, field.hint && h("small", null, field.hint)),
      ),
      problem,
      h("div.actions", null, button("Cancel", () => close(null)), go),
    )
    const shown = h("dialog", { "aria-labelledby": "dialog-title" }, form)
    const close = (answer) => {
      shown.close()
      shown.remove()
      resolve(answer)
    }
    shown.addEventListener("cancel", (event) => {
      event.preventDefault()
      close(null)
    })
    form.addEventListener("submit", async (event) => {
      event.preventDefault()
      problem.textContent = ""
      go.disabled = true
      try {
        const values = Object.fromEntries(inputs.map(([field, input]) => [field.name, read(field, input)]))
        close({ values, answer: await act(values) })
      } catch (error) {
        problem.textContent = error.message
        go.disabled = false
      }
    })
    document.body.append(shown)
    shown.showModal()
  })
}

function control({ kind = "text", value = "", options = [], required, name, label }) {
  if (kind === "select") {
    return h("select", { name }, ...options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)))
  }
  if (kind === "checks") {
    const boxes = options.map(([key, text]) =>
      h("label.check", null, h("input", { type: "checkbox", value: key, checked: value.includes(key) }), text),
    )
    return h("fieldset", null, h("legend", null, label), ...boxes)
  }
  if (kind === "json" || kind === "area") {
    const made = h("textarea", { name, rows: 8, spellcheck: "false", required: Boolean(required) })
    made.value = kind === "json" ? (value === undefined || value === "" ? "" : JSON.stringify(value, null, 2)) : value
    return made
  }
  const made = h("input", { name, type: kind, required: Boolean(required), autocomplete: "off" })
  made.value = value
  return made
}

function read({ kind, label, required }, input) {
  if (kind === "checks") return [...input.querySelectorAll("input:checked")].map((box) => box.value)
  const text = input.value.trim()
  if (kind !== "json") return text
  if (!text && !required) return undefined
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Error(`${label} is no JSON: ${error.message}`, { cause: error })
  }
}
