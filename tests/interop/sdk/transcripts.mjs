// The scenarios of recorded transcripts on npm's `inngest`: endpoints by name, and /play, which calls one as the
// transcript's client did and tells what came of it, with what the SDK asked of its server meanwhile.

import { Inngest, NonRetriableError, RetryAfterError, step } from "inngest";
import { stream } from "inngest/experimental/durable-endpoints";
import { fetchWithStream } from "inngest/experimental/durable-endpoints/client";
import { endpointAdapter, serveEndpoint } from "inngest/node";
import { host, logger, note } from "./host.mjs";

let asked = [];
/** What the SDK asks its server, with what its operations are. */
async function asking(url, init = {}) {
  const { pathname } = new URL(url);
  const entry = { call: `${init.method ?? "GET"} ${pathname.replace(/01[0-9A-Z]{24}/, "RUN")}` };
  if (typeof init.body === "string") {
    const steps = JSON.parse(init.body).steps;
    if (steps) entry.ops = steps.map(({ op }) => op);
  }
  asked.push(entry);
  const response = await fetch(url, init);
  entry.status = response.status;
  return response;
}

const client = new Inngest({ id: "transcripts", logger, endpointAdapter, fetch: asking });
const endpoint = (handler, options = {}) => serveEndpoint(endpointAdapter({ client, ...options })((request) => handler(new URL(request.url).searchParams, request)));
const nap = () => step.sleep("go-async", "300ms");
const json = (value, status = 200, headers = {}) => Response.json(value, { status, headers });
const attempt = (query, what) => note(query.get("key") ?? "", what);
const bytes = () => new Response(new Uint8Array([0, 255, 254, 10]), { headers: { "content-type": "application/octet-stream" } });
const body = async (query, request) => {
  await step.sleep("s", "200ms");
  try { return json({ body: await request.text(), err: null }); } catch (error) { return json({ body: null, err: error.message }); }
};
const talk = (words, ms = 5) => async function* () { for (const word of words) { yield word; await new Promise((done) => setTimeout(done, ms)); } };

export const handlers = {
  "/st-sync": async () => {
    await step.run("a", () => stream.push("from a"));
    await step.run("b", () => stream.pipe(talk(["b1", "b2"])));
    return json("done", 202, { "x-my": "v" });
  },
  "/st-async-none": async () => {
    await step.run("a", () => null);
    await nap();
    await step.run("b", () => null);
    return json("fn output", 202, { "x-my-header": "my-value" });
  },
  "/st-async": async () => {
    await step.run("a", () => stream.push("a1"));
    await nap();
    await step.run("b", () => stream.push("b1"));
    return json("fn output");
  },
  "/st-binary": async () => (await step.run("a", () => null), bytes()),
  "/st-circular": async () => {
    await step.run("a", () => { const o = {}; o.o = o; stream.push(o); stream.push("ok"); });
    return "c";
  },
  "/st-fnthrow": async (query) => {
    await step.run("a", () => stream.push("x"));
    if (attempt(query, "fn") === 1) throw new Error("fn boom");
    return json("ok");
  },
  "/st-fnthrow-none": async (query) => {
    await step.run("a", () => 1);
    if (attempt(query, "fn") === 1) throw new Error("fn boom");
    return json("ok");
  },
  "/fnthrow-final": async () => { await step.run("a", () => 1); throw new NonRetriableError("fn final"); },
  "/st-fnfinal-pushed": async () => { await step.run("a", () => stream.push("x")); throw new NonRetriableError("fn final"); },
  "/st-rollback": async (query) => {
    await step.run("a", () => { stream.push("sync-data"); if (attempt(query, "a") === 1) throw new Error("oh no"); });
    await step.sleep("s", "200ms");
    await step.run("b", () => { stream.push("async-data"); if (attempt(query, "b") === 1) throw new Error("oh no"); });
    return json("rb");
  },
  "/st-parallel": async () => {
    const both = await Promise.all([step.run("a", () => stream.pipe(talk(["a1", "a2", "a3"]))), step.run("b", () => stream.pipe(talk(["b1", "b2", "b3"])))]);
    return json(both);
  },
  "/st-nonretry": async () => { await step.run("a", () => { stream.push("x"); throw new NonRetriableError("boom"); }); },
  "/st-nonretry-caught": async () => {
    try { await step.run("a", () => { stream.push("x"); throw new NonRetriableError("boom"); }); } catch (error) { return json({ caught: error.message }); }
  },
  "/st-retries": async () => step.run("a", () => { stream.push("try"); throw new Error("boom"); }),
  "/st-zero": async () => { stream.push({ a: 1 }); stream.push(undefined); stream.push(null); stream.push([1]); return json("z"); },
  "/st-none": async () => (await step.run("a", () => 1), await step.run("b", () => 2), json("quiet", 201)),
  "/st-mixed": async () => {
    await step.run("a", async () => { stream.push("p1"); await stream.pipe(talk(["q1", "q2"])); stream.push("p2"); });
    return json("m");
  },
  "/st-utf8": async () => {
    const all = new TextEncoder().encode("h\u00e9\u00e9\ud83d\ude00!");
    return step.run("a", () => stream.pipe(new ReadableStream({ start(c) { for (const b of all) c.enqueue(new Uint8Array([b])); c.close(); } })));
  },
  "/st-204": async () => (await step.run("a", () => stream.push("x")), new Response(null, { status: 204 })),
  "/st-multi": async () => {
    for (const n of [1, 2]) { await step.sleep(`s${n}`, "200ms"); await step.run(`r${n}`, () => stream.push(`w${n}`)); }
    return json("ms");
  },
  "/post": body,
  "/poll": client.endpointProxy ? undefined : undefined,
  "/headers": async (query, request) => { await nap(); return json(Object.fromEntries(request.headers)); },
  "/retry": async (query) => step.run("r", () => { if (attempt(query, "r") < 3) throw new Error("no"); return "yes"; }),
  "/fail-null": async () => { await nap(); return null; },
  "/binary-async": async () => (await nap(), bytes()),
  "/status-async": async () => (await nap(), json({ a: 1 }, 418, { "x-a": "b" })),
};
const options = { "/st-retries": { retries: 2 } };
const listeners = Object.fromEntries(Object.entries(handlers).filter(([, h]) => h).map(([path, handler]) => [path, endpoint(handler, options[path])]));
listeners["/poll"] = client.endpointProxy();

async function play({ url, how, init }) {
  asked = [];
  const evs = [];
  const on = (kind) => (data) => evs.push([kind, data]);
  const plain = (r) => Object.fromEntries([...r.headers].filter(([name]) => !["date", "connection", "keep-alive", "transfer-encoding"].includes(name)));
  try {
    const response = how === "stream"
      ? await fetchWithStream(url, { onMetadata: on("metadata"), onData: on("data"), onCommit: on("commit"), onRollback: on("rollback"), fetchOpts: init })
      : await fetch(url, { redirect: how === "follow" ? "follow" : "manual", ...init });
    const result = { status: response.status, headers: plain(response), body: await response.text(), evs };
    await new Promise((done) => setTimeout(done, 300));
    return { ...result, asked };
  } catch (error) {
    return { threw: String(error.message ?? error), evs, asked };
  }
}

host(listeners, { "/play": play });
