// The agents of `bench.agents_http` on Mastra's own server: prints its address. Run from a folder that has @mastra/core,
// @mastra/hono, @mastra/server, hono and @hono/node-server installed: `node --input-type=module < agents_http_peer.mjs`.

import { serve } from "@hono/node-server";
import { Agent } from "@mastra/core/agent";
import { Mastra } from "@mastra/core/mastra";
import { MastraServer } from "@mastra/hono";
import { Hono } from "hono";

const usage = { inputTokens: 10, outputTokens: 5, totalTokens: 15 };

/** Says `count` chunks, one each `pace` ms, each with the time (ns) at which it is said. */
function talker(count, pace) {
  return {
    specificationVersion: "v2",
    provider: "bench",
    modelId: "talker",
    supportedUrls: {},
    async doGenerate() {
      return { content: [{ type: "text", text: "said" }], finishReason: "stop", usage, warnings: [] };
    },
    async doStream() {
      const stream = new ReadableStream({
        async start(controller) {
          controller.enqueue({ type: "stream-start", warnings: [] });
          controller.enqueue({ type: "text-start", id: "text-0" });
          for (let place = 0; place < count; place++) {
            controller.enqueue({ type: "text-delta", id: "text-0", delta: `${process.hrtime.bigint()} ` });
            if (pace) await new Promise((resolve) => setTimeout(resolve, pace));
          }
          controller.enqueue({ type: "text-end", id: "text-0" });
          controller.enqueue({ type: "finish", finishReason: "stop", usage });
          controller.close();
        },
      });
      return { stream };
    },
  };
}

const agent = (id, count, pace) => new Agent({ id, name: id, instructions: "Be brief.", model: talker(count, pace) });
const agents = { short: agent("short", 3, 0), paced: agent("paced", 100, 50) };
const app = new Hono();
await new MastraServer({ app, mastra: new Mastra({ logger: false, agents }) }).init();
serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) => console.log(port));
