// Endpoints on npm's `inngest` that stream, and its client: /listen calls a URL and tells all that the client heard.

import { Inngest, NonRetriableError, step } from "inngest";
import { stream } from "inngest/experimental/durable-endpoints";
import { fetchWithStream } from "inngest/experimental/durable-endpoints/client";
import { endpointAdapter, serveEndpoint } from "inngest/node";
import { host, logger, note } from "./host.mjs";

const client = new Inngest({ id: "streams", logger, endpointAdapter });
const endpoint = (handler, options = {}) =>
  serveEndpoint(endpointAdapter({ client, ...options })((request) => handler(new URL(request.url).searchParams.get("key") ?? "")));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const rest = () => step.sleep("rest", "100ms");

async function* words() {
  yield "two";
  await pause(5);
  yield "three";
}

const handlers = {
  "/talks": endpoint(async () => {
    await step.run("a", () => stream.push("one"));
    await rest();
    await step.run("b", () => stream.pipe(words));
    return Response.json({ said: 3 }, { status: 202 });
  }),
  "/retries": endpoint(async (key) => {
    await rest();
    return step.run("a", () => {
      const attempt = note(key, "try");
      stream.push(`try ${attempt}`);
      if (attempt < 3) throw new Error("not yet");
      return "done";
    });
  }),
  "/silent": endpoint(async () => {
    await rest();
    return new Response("nothing was streamed", { status: 203, headers: { "x-kept": "yes" } });
  }),
  "/fails": endpoint(async () => {
    await rest();
    await step.run("a", () => {
      stream.push("x");
      throw new NonRetriableError("never");
    });
  }),
  "/parallel": endpoint(async () => {
    const talk = (name) => step.run(name, () => stream.pipe(async function* () {
      for (let n = 0; n < 50; n++) (yield `${name}${n} `), await pause(1);
    }));
    await rest();
    return Promise.all([talk("a"), talk("b")]);
  }),
  "/large": endpoint(async () => {
    await rest();
    return step.run("a", async () => (await stream.pipe(async function* () {
      for (let n = 0; n < 3000; n++) yield `${n} `.padEnd(500, "x");
    })).length);
  }),
  "/dies": endpoint(async () => {
    await rest();
    return step.run("a", async () => {
      stream.push("first");
      // Long enough for whoever listens to have heard it.
      await pause(1000);
      if (!process.env.SECOND) process.exit(9);
      stream.push("second");
      return "survived";
    });
  }),
};

async function listen({ url }) {
  const heard = [];
  const response = await fetchWithStream(url, {
    onData: ({ data }) => heard.push(data),
    onCommit: () => heard.push({ is: "commit" }),
    onRollback: () => heard.push({ is: "rollback" }),
  });
  return { status: response.status, headers: Object.fromEntries(response.headers), body: await response.text(), heard };
}

host(handlers, { "/listen": listen });
