"""What keeps people from reading or using a page, as far as a browser can tell: faint text, controls without a name,
what is wider than the window."""

from __future__ import annotations

from perdure.model.json import Json
from tests.support.devtools import Page

_FAINT = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true })
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1)
    canvas.fillStyle = color
    canvas.fillRect(0, 0, 1, 1)
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data
    return [r, g, b, a / 255]
  }
  const over = ([r, g, b, a], under) => [r, g, b].map((each, i) => each * a + under[i] * (1 - a))
  const behind = (element) => {
    if (!element) return rgba(getComputedStyle(document.documentElement).colorScheme.includes("dark")
      && matchMedia("(prefers-color-scheme: dark)").matches ? "#121212" : "#ffffff").slice(0, 3)
    const own = rgba(getComputedStyle(element).backgroundColor)
    return own[3] === 1 ? own.slice(0, 3) : over(own, behind(element.parentElement))
  }
  const linear = (each) => (each / 255 <= 0.04045 ? each / 255 / 12.92 : ((each / 255 + 0.055) / 1.055) ** 2.4)
  const light = (color) => {
    const [r, g, b] = color.map(linear)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const found = []
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
    if (!own && !(element.matches("input, textarea, select") && element.value)) continue
    const style = getComputedStyle(element)
    if (!element.getClientRects().length || style.visibility !== "visible" || element.matches(":disabled")) continue
    const back = behind(element)
    const [a, b] = [light(over(rgba(style.color), back)), light(back)].sort((x, y) => y - x)
    const size = parseFloat(style.fontSize)
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700)
    const ratio = (a + 0.05) / (b + 0.05)
    const text = (element.textContent || element.value).trim().slice(0, 40)
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)}: ${element.localName} "${text}"`)
  }
  return found
})()
"""
_CONTROLS = frozenset(
    ("button", "checkbox", "combobox", "link", "listbox", "radio", "searchbox", "switch", "tab", "textbox")
)


async def faint_texts(page: Page) -> list[str]:
    """The texts whose contrast is below that of WCAG 2.2 AA (4.5, and 3 for large ones), with their ratio."""
    found: Json = await page.run(_FAINT)
    return list(found)


async def nameless_controls(page: Page) -> list[str]:
    """The roles of controls that assistive technology can tell no name of."""
    return [role for role, name in await page.roles() if role in _CONTROLS and not name.strip()]


async def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(await page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
