// A function of three steps on npm's `inngest` version 4, for `python -m bench.sdk`.

import { createServer } from "node:http";

import { Inngest } from "inngest";
import { serve } from "inngest/node";

const client = new Inngest({ id: "three" });
const three = client.createFunction({ id: "three", triggers: [{ event: "bench/three" }] }, async ({ event, step }) => {
  const a = await step.run("a", () => event.data.n + 1);
  const b = await step.run("b", () => a + 1);
  return step.run("c", () => b + 1);
});
const server = createServer(serve({ client, functions: [three] }));
server.listen(0, "127.0.0.1", () => console.log(`app listens on http://127.0.0.1:${server.address().port}`));
