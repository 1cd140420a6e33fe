// What was recorded of npm's `inngest` and the server of its makers, once more: an endpoint for each scenario, by name.
// /play calls one as the recorded caller did, and tells what it heard and what the SDK asked of its server meanwhile.

import { Inngest, NonRetriableError, step } from "inngest";
import { stream } from "inngest/experimental/durable-endpoints";
import { fetchWithStream } from "inngest/experimental/durable-endpoints/client";
import { endpointAdapter, serveEndpoint } from "inngest/node";
import { host, logger, note } from "./host.mjs";

let asked = [];

/** What the SDK asks its server: method, path, and its operations. */
async function asking(url, init = {}) {
  const { pathname, search } = new URL(url);
  const entry = { call: `${init.method ?? "GET"} ${pathname}${search.replace(/\?token=.*/, "")}` };
  const steps = typeof init.body === "string" ? JSON.parse(init.body).steps : undefined;
  if (steps) entry.call += ` ${steps.map(({ op }) => op)}`;
  if (!pathname.endsWith("/output")) asked.push(entry);
  const response = await fetch(url, init);
  entry.status = response.status;
  return response;
}

const client = new Inngest({ id: "transcripts", logger, endpointAdapter, fetch: asking });
const json = (value, status = 200, headers = {}) => Response.json(value, { status, headers });
const bytes = () => new Response(new Uint8Array([0, 255, 254, 10, 128]), { headers: { "content-type": "application/octet-stream", "set-cookie": "a=b" } });
const first = (query, what) => note(query.get("k"), what) === 1;
const fail = (message, Kind = Error) => { throw new Kind(message); };
const read = async (request) => {
  try {
    return json({ body: await request.text(), err: null });
  } catch (error) {
    return json({ body: null, err: error.message });
  }
};
async function* words(...all) {
  for (const word of all) (yield word, await new Promise((done) => setTimeout(done, 5)));
}

const handlers = {
  binary: async () => (await step.run("a", () => null), bytes()),
  date: async () => {
    const d = await step.run("d", () => new Date(0));
    return json({ t: typeof d, d });
  },
  "fnthrow-always": async () => (await step.run("a", () => 1), fail("fn always")),
  "fnthrow-final": async () => (await step.run("a", () => 1), fail("fn final", NonRetriableError)),
  "fnthrow-zero": (query) => (first(query, "try") ? fail("not yet") : json({ n: 2 })),
  post: async (query, request) => (await step.run("a", () => 1), await step.sleep("s", "200ms"), read(request)),
  "post-sync": async (query, request) => (await step.run("a", () => 1), read(request)),
  "redir-fn": async () => (await step.sleep("s", "200ms"), json("x")),
  "redir-str": async () => (await step.sleep("s", "200ms"), json({ via: "proxy" })),
  sendevent: async () => json(await step.sendEvent("se", { name: "transcripts/sent", data: {} })),
  "sleep-obj": async () => (await step.sleep("s", "200ms"), { k: "v" }),
  "sleep-text": async () => (await step.sleep("s", "200ms"), new Response("OK text")),
  sleep: async (query, request) => {
    const a = await step.run("a", () => "hello");
    await step.sleep("s", "200ms");
    const b = await step.run("b", () => "world");
    return json(`${a} ${b} ${new URL(request.url).search}`);
  },
  "st-async-none": async () => {
    await step.run("a", () => null);
    await step.sleep("go-async", "200ms");
    await step.run("b", () => null);
    return json("fn output", 202, { "x-my-header": "my-value" });
  },
  "st-binary": async () => {
    await step.run("a", () => null);
    return new Response(new Uint8Array([0, 255, 254, 10, 128]), { headers: { "content-type": "application/octet-stream" } });
  },
  "st-circular": async () => {
    await step.run("a", () => {
      const loop = {};
      loop.loop = loop;
      (stream.push(loop), stream.push("ok"));
    });
    return json("c");
  },
  "st-fnthrow": async (query) => {
    await step.run("a", () => stream.push("x"));
    return first(query, "try") ? fail("not yet") : json("ok");
  },
  "st-rollback": async (query) => {
    const say = (name, word) => step.run(name, () => (stream.push(word), first(query, name) && fail("oh no")));
    await say("a", "sync-data");
    await step.sleep("s", "200ms");
    await say("b", "async-data");
    return json("fn output");
  },
  "st-sync": async () => {
    await step.run("a", () => stream.push("from a"));
    await step.run("b", () => stream.pipe(words("b1", "b2")));
    return json("done", 202, { "x-my": "v" });
  },
  "sync-json": async () => {
    const a = await step.run("a", () => ({ n: 1 }));
    const b = await step.run("b", () => a.n + 1);
    return json({ a, b }, 202, { "x-my": "v" });
  },
  "sync-obj": () => ({ ok: true }),
  "sync-str": async () => (await step.run("a", () => 1), "All done"),
  "sync-undef": async () => { await step.run("a", () => undefined); },
  token: async () => (await step.sleep("s", "200ms"), json("t")),
  wfe: async (query) => {
    const options = { event: "transcripts/go", timeout: "20s", if: `async.data.id == "${query.get("k")}"` };
    const event = await step.waitForEvent("w", options);
    return json({ got: event.data.who });
  },

  // Not recorded here, but told of by the reference.
  "st-async": async () => {
    await step.run("a", () => stream.push("a1"));
    await step.sleep("s", "200ms");
    await step.run("b", () => stream.push("b1"));
    return json("done");
  },
  "st-exhausted": async () => step.run("a", () => (stream.push("x"), fail("boom"))),
  "st-multi": async () => {
    for (const name of ["a", "b"]) {
      await step.sleep(`s${name}`, "200ms");
      await step.run(name, () => stream.push(name));
    }
    return json("done");
  },
  "st-none": async () => (await step.run("a", () => 1), await step.run("b", () => 2), json("quiet", 201)),
  "st-nonretriable": async () => step.run("a", () => (stream.push("x"), fail("boom", NonRetriableError))),
  "st-zero": async () => {
    for (const value of [{ a: 1 }, undefined, null, [1]]) stream.push(value);
    return json("z");
  },
};
const options = {
  "fnthrow-always": { retries: 2 },
  "redir-fn": { asyncRedirectUrl: async ({ runId, token }) => `https://my-app.example/poll?run=${runId}&t=${token.slice(0, 5)}` },
  "redir-str": { asyncRedirectUrl: "/poll?x=1" },
  "st-exhausted": { retries: 2 },
  token: { asyncResponse: "token" },
};
const listeners = { "/poll": client.endpointProxy() };
for (const [name, handler] of Object.entries(handlers)) {
  const adapter = endpointAdapter({ client, ...options[name] });
  listeners[`/${name}`] = serveEndpoint(adapter((request) => handler(new URL(request.url).searchParams, request)));
}

const told = async (response) => ({ status: response.status, headers: Object.fromEntries(response.headers), body: await response.text() });

async function play({ url, streams, ...init }) {
  asked = [];
  if (!streams) return told(await fetch(url, { redirect: "manual", ...init }));
  const events = [];
  const heard = (kind) => ({ data, hashedStepId }) =>
    events.push([kind, ...(kind === "data" ? [data ?? null] : []), ...(hashedStepId ? [hashedStepId.slice(0, 4)] : [])]);
  const on = { onMetadata: heard("metadata"), onData: heard("data"), onCommit: heard("commit"), onRollback: heard("rollback") };
  return { ...(await told(await fetchWithStream(url, on))), events };
}

host(listeners, { "/play": play, "/asked": () => asked });
