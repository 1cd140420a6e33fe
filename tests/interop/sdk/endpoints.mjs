// Endpoints on npm's `inngest`: requests that become runs.
import { Inngest, NonRetriableError, step } from "inngest";
import { createEndpointServer, endpointAdapter, serveEndpoint } from "inngest/node";
import http from "node:http";

const client = new Inngest({ id: "endpoints", endpointAdapter });
const tries = {};
const attempt = (key) => (tries[key] = (tries[key] ?? 0) + 1);
const param = (request, name) => new URL(request.url).searchParams.get(name);

const handlers = {
  "/none": async () => Response.json({ plain: true }, { status: 201, headers: { "x-kept": "yes" } }),
  "/value": async () => ({ a: 1 }),
  "/two": async () => {
    const a = await step.run("a", () => ({ n: 1 }));
    const b = await step.run("b", () => a.n + 1);
    return Response.json({ a, b }, { status: 202 });
  },
  "/sleep": async (request) => {
    const before = await step.run("before", () => attempt(`sleep-${param(request, "id")}`));
    await step.sleep("rest", "1s");
    const after = await step.run("after", () => before + 1);
    return { before, after, query: new URL(request.url).search };
  },
  "/wait": async (request) => {
    const event = await step.waitForEvent("go", { event: "endpoints/go", timeout: "20s", if: `async.data.id == "${param(request, "id")}"` });
    return { data: event.data };
  },
  "/parallel": async (request) => {
    const both = await Promise.all([step.run("p1", () => 1), step.run("p2", () => 2)]);
    const after = await step.run("after", () => attempt(`parallel-${param(request, "id")}`));
    return { both, after };
  },
  "/flaky": async (request) => {
    const n = await step.run("flaky", () => {
      const n = attempt(`flaky-${param(request, "id")}`);
      if (n < 2) throw new Error("not yet");
      return n;
    });
    return { n };
  },
  "/caught": async () => {
    try {
      await step.run("never", () => { throw new NonRetriableError("never"); });
    } catch (error) {
      return { caught: error.message };
    }
  },
  "/throws": async (request) => {
    await step.run("a", () => 1);
    if (attempt(`throws-${param(request, "id")}`) < 2) throw new Error("outside");
    return { ok: true };
  },
  "/fails": async () => {
    await step.run("a", () => 1);
    throw new Error("always");
  },
};

const listeners = Object.fromEntries(
  Object.entries(handlers).map(([path, handler]) => [path, serveEndpoint(client.endpoint(handler))]),
);
const token = serveEndpoint(new Inngest({ id: "endpoints", endpointAdapter: endpointAdapter.withOptions({ asyncResponse: "token" }) }).endpoint(handlers["/sleep"]));
http
  .createServer((request, response) => {
    const path = new URL(request.url, "http://x").pathname;
    const listener = path === "/token" ? token : listeners[path];
    if (listener) return listener(request, response);
    response.writeHead(404).end();
  })
  .listen(0, "127.0.0.1", function () {
    console.log(`app listens on http://127.0.0.1:${this.address().port}`);
  });
