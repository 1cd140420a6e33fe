// Plays a page: calls the endpoint with the module for browsers, and prints what it was told.
import { pathToFileURL } from "node:url"

const [module, url, options] = process.argv.slice(2)
const { fetchWithStream } = await import(pathToFileURL(module).href)
const told = { events: [], stream_errors: [], done: 0 }
const keep = (kind) => (value) => void told.events.push([kind, value])
try {
  const response = await fetchWithStream(url, {
    ...JSON.parse(options),
    onMetadata: keep("metadata"),
    onData: keep("data"),
    onCommit: keep("commit"),
    onRollback: keep("rollback"),
    onStreamError: (message) => void told.stream_errors.push(message),
    onDone: () => void (told.done += 1),
  })
  told.status = response.status
  told.headers = Object.fromEntries(response.headers)
  told.body = await response.text()
} catch (error) {
  told.error = error.message
}
console.log(JSON.stringify(told))
