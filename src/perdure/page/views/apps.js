// Apps: how each is reached and was synced, and what to set where its last sync failed.

import { every } from "../api.js"
import { empty, h, put } from "../dom.js"
import { watch } from "../live.js"
import { changed, facts } from "../shapes.js"
import { time } from "../times.js"

// What mends an error of a sync, by its code.
const KEY = "Give the app and this server the same signing key: INNGEST_SIGNING_KEY of the app, --signing-key here."
const URL_IS = "Give the URL at which the app serves the SDK: /api/inngest most often."
const MODE = "Set INNGEST_DEV=1 in the app for a server for development, and leave it out for one with keys."
const MENDS = {
  unreachable: "Start the app, and look whether this machine reaches its address; in a container, localhost is the container itself.",
  url_not_found: URL_IS,
  not_sdk: URL_IS,
  missing_signing_key: "The app is in its production mode: start it with INNGEST_DEV=1, or this server with keys.",
  invalid_signing_key: KEY,
  server_kind_mismatch: MODE,
  registration_failed: MODE,
  internal_server_error: "See the app's log: often it cannot reach this server at its INNGEST_DEV or INNGEST_BASE_URL.",
  registered_elsewhere: "INNGEST_DEV or INNGEST_BASE_URL of the app leads to another server: set it to this one.",
  sdk_version_denied: "Update the npm SDK to 3.54.0 or newer.",
  forbidden: "Something in front of the app refuses requests: let this server pass.",
  unsupported_protocol: "Only http and https URLs can be called.",
}

export async function show(root, { signal }) {
  const shown = h("div.grid")
  put(root, h("div.head", null, h("h1", null, "Apps")), shown)
  async function refresh() {
    const apps = await every("v2/apps", {}, signal)
    if (changed(shown, apps)) put(shown, apps.length ? apps.map(one) : nothing())
  }
  await refresh()
  watch(refresh, signal)
}

function one(app) {
  const sync = app.latestSync ?? {}
  return h(
    "section.card",
    null,
    h("h2", null, app.name ?? app.id),
    sync.error && problem(sync.error),
    facts([
      ["Functions", String(app.functionCount)],
      ["Reached by", app.method?.toLowerCase() ?? "this process"],
      ["URL", sync.url && h("span.mono", null, sync.url)],
      ["SDK", [sync.sdkLanguage, sync.sdkVersion].filter(Boolean).join(" ")],
      ["Framework", sync.framework],
      ["Version", sync.appVersion],
      ["Synced", time(sync.syncedAt)],
      ["Known since", time(app.createdAt)],
    ]),
    h("p", null, h("a", { href: `#/runs?${new URLSearchParams({ app: app.id })}` }, "Runs")),
  )
}

const problem = (error) =>
  h("div", { role: "alert" }, h("p.bad", null, h("strong", null, `The last sync failed: ${error.code}`)), h("p", null, error.message),
    MENDS[error.code] && h("p", null, h("strong", null, "To mend it: "), MENDS[error.code]))

const nothing = () =>
  empty("There is no app.", h("p", null, "Run one in this process: perdure dev app.py:app"),
    h("p", null, "Or let one on another server register: perdure dev -u http://localhost:3000/api/inngest"))
