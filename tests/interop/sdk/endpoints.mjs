// Endpoints on npm's `inngest`: requests that become runs. Each handler notes under ?key= when it begins and what it does.

import fs from "node:fs";
import { Inngest, NonRetriableError, RetryAfterError, referenceFunction, step } from "inngest";
import { endpointAdapter, serve, serveEndpoint } from "inngest/node";
import { host, logger, note } from "./host.mjs";

const id = process.env.APP_ID ?? "endpoints";
const client = new Inngest({ id, logger, endpointAdapter });
const double = client.createFunction({ id: "double", triggers: [{ event: `${id}/double` }] }, ({ event }) => event.data.n * 2);

/** A handler that gets the query, a way to note something, and the request. */
const endpoint = (handler, options = {}) =>
  serveEndpoint(
    endpointAdapter({ client, ...options })(async (request) => {
      const query = Object.fromEntries(new URL(request.url).searchParams);
      const noted = (what) => note(query.key ?? "", what);
      noted(`begin ${request.method}`);
      return handler(query, noted, request);
    }),
  );

/** Runs a step that is noted. */
const run = (noted, name, work = () => name) => step.run(name, () => (noted(name), work()));
const fails = (message, Kind = Error) => () => { throw new Kind(message); };
const sleeps = async ({ span }, noted, request) => {
  const before = await run(noted, "before", () => "hello");
  await step.sleep("rest", span ?? "300ms");
  const after = await run(noted, "after", () => "world");
  return new Response(`${before} ${after} ${new URL(request.url).search}`);
};
const twice = (work) => (query, noted) => (noted("try") < 2 ? fails("not yet")() : work(query, noted));

/** Kills the server, this process, or both; once. */
function dies(marker, who) {
  if (fs.existsSync(marker)) return;
  fs.writeFileSync(marker, "");
  if (who !== "app") process.kill(Number(fs.readFileSync(process.env.LEDGER + ".server")), "SIGKILL");
  if (who !== "server") process.kill(process.pid, "SIGKILL");
}

const handlers = {
  // Answered at once.
  "/none": () => Response.json({ plain: true }, { status: 201, headers: { "x-kept": "yes" } }),
  "/value": () => ({ a: 1 }),
  "/text": async (query, noted) => (await run(noted, "a"), "All done"),
  "/nothing": async (query, noted) => { await run(noted, "a", () => undefined); },
  "/two": async (query, noted) => {
    const a = await run(noted, "a", () => ({ n: 1 }));
    const b = await run(noted, "b", () => a.n + 1);
    return Response.json({ a, b }, { status: 202, headers: { "x-my": "v" } });
  },
  "/date": async (query, noted) => {
    const d = await run(noted, "d", () => new Date(0));
    return { t: typeof d, d };
  },
  "/binary": async (query, noted) => {
    await run(noted, "a");
    const headers = { "content-type": "application/octet-stream", "set-cookie": "a=b" };
    return new Response(new Uint8Array([0, 255, 254, 10]), { headers });
  },
  "/same": async (query, noted) => [await run(noted, "x", () => 1), await run(noted, "x", () => 2), await run(noted, "x", () => 3)],
  "/sends": async () => step.sendEvent("se", { name: `${id}/from-endpoint`, data: { a: 1 } }),
  "/nested": (query, noted) => run(noted, "outer", () => "not nested"),

  // Led to where the answer will be.
  "/sleep": sleeps,
  "/sleep-object": async () => (await step.sleep("rest", "200ms"), { k: "v" }),
  "/sleep-first": async () => (await step.sleep("rest", "200ms"), new Response("OK text")),
  "/sleep-null": async () => { await step.sleep("rest", "200ms"); },
  "/body": async (query, noted, request) => {
    await step.sleep("rest", "200ms");
    return { method: request.method, type: request.headers.get("content-type"), mine: request.headers.get("x-mine") };
  },
  "/wait": async ({ key, timeout }, noted) => {
    const waited = { event: `${id}/go`, timeout: timeout ?? "20s", if: `async.data.id == "${key}"` };
    const event = await step.waitForEvent("go", waited);
    noted("woken");
    return { got: event && event.data };
  },
  "/signal": async ({ key }) => ({ got: await step.waitForSignal("s", { signal: key, timeout: "300ms" }) }),
  "/invoke": async () => step.invoke("call", { function: referenceFunction({ appId: id, functionId: "double" }), data: { n: 21 } }),
  "/parallel": async (query, noted) => {
    const both = await Promise.all([run(noted, "p1"), run(noted, "p2")]);
    return { both, after: await run(noted, "after") };
  },
  "/mixed": async (query, noted) => {
    const wait = { event: `${id}/never`, timeout: "400ms" };
    const all = await Promise.all([run(noted, "p1"), step.sleep("rest", "200ms"), step.waitForEvent("w", wait)]);
    return { all: all.map((each) => each ?? null), after: await run(noted, "after") };
  },
  "/race": async (query, noted) => ({ won: await Promise.race([run(noted, "fast"), step.sleep("slow", "3s")]) }),
  "/one-fails": async (query, noted) => Promise.all([run(noted, "sound"), run(noted, "flaky", () => (noted("try") < 2 ? fails("not yet")() : "ok"))]),

  // Failures.
  "/flaky": async (query, noted) => ({ n: await run(noted, "flaky", () => (noted("try") < 2 ? fails("not yet")() : 2)) }),
  "/retry-after": async (query, noted) => run(noted, "later", () => {
    if (noted("try") < 3) throw new RetryAfterError("not yet", 1500);
    return "at last";
  }),
  "/never": async (query, noted) => {
    try {
      return await run(noted, "never", fails("never", NonRetriableError));
    } catch (error) {
      return { caught: error.message };
    }
  },
  "/throws": async (query, noted) => {
    await run(noted, "a");
    return twice(() => ({ ok: true }))(query, noted);
  },
  "/throws-first": twice(() => ({ n: 2 })),
  "/throws-final": async (query, noted) => {
    await run(noted, "a");
    fails("fn final", NonRetriableError)();
  },
  "/crashes": async ({ key, at, who }) => {
    const ledger = (what) => fs.appendFileSync(process.env.LEDGER, `${key} ${what}\n`);
    const reached = (place) => at === place && dies(`${process.env.LEDGER}.${key}`, who);
    // A step begins when those before it are recorded; what is between two steps may run earlier.
    const once = (name) => step.run(name, () => (reached(`before ${name}`), ledger(name), reached(`in ${name}`), name));
    await once("a");
    await once("b");
    await step.sleep("rest", "300ms");
    await once("c");
    await once("d");
    reached("at the end");
    return { done: key };
  },
  "/large": async (query, noted) => {
    await run(noted, "small");
    return run(noted, "large", () => "x".repeat(5 * 1024 * 1024)).then((text) => text.length);
  },
};

const uncaught = async (query, noted) => run(noted, "always", fails("always"));
const caught = async (query, noted) => {
  try {
    return await uncaught(query, noted);
  } catch (error) {
    return Response.json({ caught: error.message }, { status: 500 });
  }
};
const optioned = {
  "/token": endpoint(sleeps, { asyncResponse: "token" }),
  "/redirect-text": endpoint(handlers["/sleep-object"], { asyncRedirectUrl: "/poll?x=1" }),
  "/redirect-null": endpoint(handlers["/sleep-null"], { asyncRedirectUrl: "/poll" }),
  "/redirect-absolute": endpoint(sleeps, { asyncRedirectUrl: "https://other.example/poll" }),
  "/redirect-made": endpoint(sleeps, { asyncRedirectUrl: async ({ runId, token }) => `https://my-app.example/poll?run=${runId}&t=${token.slice(0, 5)}` }),
  "/named": endpoint(handlers["/body"], { functionId: "my-fn-id" }),
  "/exhausted-caught": endpoint(caught, { retries: 2 }),
  "/exhausted": endpoint(uncaught, { retries: 2 }),
  "/retries-0": endpoint(caught, { retries: 0 }),
  "/retries-1": endpoint(caught, { retries: 1 }),
  "/throws-always": endpoint((query, noted) => (noted("try"), fails("always")()), { retries: 2 }),
  "/poll": client.endpointProxy(),
};

const listeners = Object.fromEntries(Object.entries(handlers).map(([path, handler]) => [path, endpoint(handler)]));
for (const path of ["/users/123", "/users/456"]) listeners[path] = endpoint(handlers["/sleep"]);
host({ ...listeners, ...optioned, "/api/inngest": serve({ client, functions: [double] }) });
