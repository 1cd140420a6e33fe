// The catalogue on npm's `inngest` version 3, over node's own HTTP server; and what this version has of its own.

import { encryptionMiddleware } from "@inngest/middleware-encryption";
import { subscribe } from "@inngest/realtime";
import { realtimeMiddleware } from "@inngest/realtime/middleware";
import * as sdk from "inngest";
import { serve } from "inngest/node";

import { catalogue } from "../catalogue.mjs";
import { host, logger, note } from "../host.mjs";

const { Inngest, InngestMiddleware } = sdk;
const app = process.env.APP_ID ?? "v3";
const client = new Inngest({ id: app, logger });
const define = (options, triggers, handler) => client.createFunction(options, triggers, handler);
const functions = Object.values(catalogue({ app, sdk, define, note }));

const greeting = new InngestMiddleware({
  name: "greeting",
  init: () => ({
    onFunctionRun: ({ ctx }) => ({
      transformInput: () => ({ ctx: { greeting: `hello from ${ctx.event.data.key}` } }),
      transformOutput: ({ result, step }) => ({
        result: { data: step ? `[${result.data}]` : { wrapped: result.data } },
      }),
    }),
  }),
});
functions.push(
  define(
    { id: "with-middleware", retries: 0, middleware: [greeting] },
    [{ event: `${app}/with-middleware` }],
    ({ step, greeting: given }) => step.run("greet", () => given),
  ),
);

// Realtime is a package of its own, which looks for the server in a variable of its own.
process.env.INNGEST_API_BASE_URL ??= process.env.INNGEST_BASE_URL ?? process.env.INNGEST_DEV;
functions.push(
  define(
    { id: "publishes", retries: 0, middleware: [realtimeMiddleware()] },
    [{ event: `${app}/publishes` }],
    async ({ event, publish }) => {
      await publish({ channel: `news-${event.data.key}`, topic: "progress", data: { at: "once" } });
      return "published";
    },
  ),
);

// The same keys as in Python: neither step results nor what is in `data.encrypted` is readable on the server.
const secret = new Inngest({ id: `${app}-secret`, logger, middleware: [encryptionMiddleware({ key: "not-a-secret" })] });
const hidden = [
  secret.createFunction(
    { id: "hides", retries: 0 },
    [{ event: `${app}-secret/hides` }],
    async ({ event, step }) => {
      const a = await step.run("a", () => `${event.data.encrypted.word} and more`);
      await step.sleep("nap", "1s");
      note(event.data.key, a);
      return a;
    },
  ),
];

host(
  { "/api/inngest": serve({ client, functions }), "/api/secret": serve({ client: secret, functions: hidden }) },
  {
    "/send": async (events) => (await client.send(events)).ids,
    "/send-secret": async (events) => (await secret.send(events)).ids,
    "/subscribe": async ({ channel, topics, key }) => {
      await subscribe({ app: client, channel, topics }, ({ data }) => note(key, data));
      return "subscribed";
    },
  },
);
