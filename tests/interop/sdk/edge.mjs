// Endpoints on npm's `inngest` for the edge, behind the SDK's own server.

import { Inngest, step } from "inngest";
import { endpointAdapter } from "inngest/edge";
import { createEndpointServer } from "inngest/node";
import { stream } from "inngest/experimental/durable-endpoints";
import { logger } from "./host.mjs";

const client = new Inngest({ id: "edge", logger, endpointAdapter });
let tries = 0;
const handlers = {
  "/two": client.endpoint(async () => {
    const n = await step.run("a", () => 1);
    return Response.json({ n: await step.run("b", () => n + 1) }, { status: 202 });
  }),
  "/sleep": client.endpoint(async (request) => {
    const before = await step.run("a", () => "slept");
    await step.sleep("rest", "200ms");
    return Response.json({ before, method: request.method });
  }),
  "/talks": client.endpoint(async () => {
    await step.run("a", () => stream.push("one"));
    await step.sleep("rest", "200ms");
    await step.run("b", () => {
      stream.push(`try ${++tries}`);
      if (tries < 2) throw new Error("not yet");
    });
    return Response.json("done", { status: 201 });
  }),
  "/wait": client.endpointProxy(),
};
const server = createEndpointServer((request) => handlers[new URL(request.url).pathname](request));
server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", () =>
  console.log(`app listens on http://127.0.0.1:${server.address().port}`),
);
