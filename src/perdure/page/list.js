// A long list of which only what is seen is in the page: a hundred thousand rows scroll as ten do.

import { h } from "./dom.js"

const SPARE = 8 // rows kept above and below what is seen

/** `<p-list>`: set `row` (item -> element), `key` (item -> id) and `items`; `onend` is called near the end. */
class List extends HTMLElement {
  items_ = []
  rows = new Map()
  height = 44

  connectedCallback() {
    if (this.inner) return
    this.inner = h("div.rows", { role: "list" })
    this.append(this.inner)
    this.addEventListener("scroll", () => this.schedule(), { passive: true })
    this.sized = new ResizeObserver(() => this.schedule())
    this.sized.observe(this)
    this.schedule()
  }
  disconnectedCallback() {
    this.sized?.disconnect()
  }
  set items(items) {
    this.items_ = items
    this.schedule()
  }
  get items() {
    return this.items_
  }
  /** Draws rows anew whose item is another one than before. */
  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined
      if (this.isConnected) this.draw()
    })
  }
  /** The places of the first and the last row that are seen. */
  get seen() {
    const first = Math.floor(this.scrollTop / this.height)
    return [first, Math.min(this.items_.length - 1, first + Math.ceil(this.clientHeight / this.height))]
  }
  draw() {
    const size = parseFloat(getComputedStyle(this).getPropertyValue("--row"))
    if (size && size !== this.height) {
      this.height = size
      this.rows.forEach(({ element }) => element.remove())
      this.rows.clear()
    }
    this.inner.style.height = `${this.items_.length * this.height}px`
    const [first, last] = this.seen
    const from = Math.max(0, first - SPARE)
    const until = Math.min(this.items_.length - 1, last + SPARE)
    const left = new Set(this.rows.keys())
    let before = null
    for (let place = from; place <= until; place++) {
      const item = this.items_[place]
      const key = this.key(item)
      left.delete(key)
      let made = this.rows.get(key)
      if (!made || made.item !== item) {
        const element = h("div.row", { role: "listitem" }, this.row(item))
        const focused = made?.element.contains(document.activeElement) && document.activeElement.dataset.focus
        made?.element.replaceWith(element)
        made = { item, element }
        this.rows.set(key, made)
        if (focused) element.querySelector(`[data-focus="${focused}"]`)?.focus({ preventScroll: true })
      }
      made.element.style.transform = `translateY(${place * this.height}px)`
      made.element.setAttribute("aria-setsize", this.items_.length)
      made.element.setAttribute("aria-posinset", place + 1)
      // Rows are in the order in which they are seen, so that the keyboard goes through them in it.
      if (before ? before.nextSibling !== made.element : this.inner.firstChild !== made.element) {
        before ? before.after(made.element) : this.inner.prepend(made.element)
      }
      before = made.element
    }
    for (const key of left) {
      this.rows.get(key).element.remove()
      this.rows.delete(key)
    }
    if (until >= this.items_.length - 1 - SPARE) this.onend?.()
  }
}
customElements.define("p-list", List)

/** A list of these rows. */
export function list({ row, key, label, onend }) {
  const made = document.createElement("p-list")
  Object.assign(made, { row, key, onend })
  made.setAttribute("tabindex", "0")
  made.setAttribute("role", "region")
  made.setAttribute("aria-label", label)
  return made
}
