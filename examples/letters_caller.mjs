// Calls a URL with the client of npm's `inngest`, as published, and prints what it hears: a JSON object a line.
//
//   npm install inngest zod && node letters_caller.mjs "http://localhost:8000/letter?reader=Ada"

import { fetchWithStream } from "inngest/experimental/durable-endpoints/client"

const say = (heard) => void console.log(JSON.stringify(heard))
const response = await fetchWithStream(process.argv[2], {
  onMetadata: ({ runId }) => say({ kind: "metadata", run_id: runId }),
  onData: ({ data }) => say({ kind: "data", data }),
  onCommit: () => say({ kind: "commit" }),
  onRollback: () => say({ kind: "rollback" }),
})
say({ kind: "answer", status: response.status, body: await response.text() })
