// A client that lives longer than its server: `node session.mjs` reads calls, one a line, and answers each with a line.
//
// A call is `{url, agent?, call, args, until?}`; with `until` the answer comes once a stream has said that kind of chunk,
// and the stream is left open. The client tries again by itself, as it does where nobody says otherwise.

import { createInterface } from "node:readline";
import { MastraClient } from "@mastra/client-js";

const clients = new Map();

function client(url) {
  if (!clients.has(url)) clients.set(url, new MastraClient({ baseUrl: url, retries: 20, backoffMs: 100, maxBackoffMs: 500 }));
  return clients.get(url);
}

async function heard(response, until) {
  const chunks = [];
  await new Promise((done) => {
    const onChunk = async (chunk) => {
      chunks.push(chunk);
      if (chunk.type === until) done();
    };
    // A stream whose server is killed breaks off, and that is what is wanted here.
    response.processDataStream({ onChunk }).then(done, done);
  });
  return chunks;
}

async function carryOut({ url, agent, thread, call, args, until }) {
  const made = client(url);
  const target = agent ? made.getAgent(agent) : thread ? made.getMemoryThread(thread) : made;
  const found = await target[call](...args);
  return found?.processDataStream ? heard(found, until) : found;
}

process.on("unhandledRejection", () => {});
for await (const line of createInterface({ input: process.stdin })) {
  let told;
  try {
    told = { value: await carryOut(JSON.parse(line)) };
  } catch (error) {
    told = { error: String(error.status ?? error.stack) };
  }
  process.stdout.write(`${JSON.stringify(told)}\n`);
}
process.exit(0);
