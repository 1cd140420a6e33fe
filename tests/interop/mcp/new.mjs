// The official client of the stateless revision, in each of its modes. Prints what it got as JSON.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [url, tool, given, mode] = process.argv.slice(2);
const versionNegotiation = { mode: mode.startsWith("pin:") ? { pin: mode.slice(4) } : mode };
const client = new Client({ name: "perdure-tests", version: "1" }, { versionNegotiation });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const { tools } = await client.listTools();
const result = await client.callTool({ name: tool, arguments: JSON.parse(given) });
await client.close();
console.log(JSON.stringify({ tools: tools.map((each) => each.name), result }));
