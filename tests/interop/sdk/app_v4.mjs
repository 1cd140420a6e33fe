// The catalogue on npm's `inngest` version 4, over node's own HTTP server; and what only this version has.

import { encryptionMiddleware } from "@inngest/middleware-encryption";
import * as sdk from "inngest";
import { createDefer } from "inngest/experimental";
import { serve } from "inngest/node";
import { realtime, staticSchema, subscribe } from "inngest/realtime";

import { catalogue } from "./catalogue.mjs";
import { host, logger, note } from "./host.mjs";

const { Inngest, Middleware, group } = sdk;
const app = process.env.APP_ID ?? "v4";
const client = new Inngest({ id: app, logger });
const define = (options, triggers, handler) => client.createFunction({ ...options, triggers }, handler);
const on = (id) => [{ event: `${app}/${id}` }];
const functions = Object.values(catalogue({ app, sdk, define, note }));

functions.push(
  define({ id: "race", retries: 0 }, on("race"), async ({ step }) => {
    const winner = await group.parallel({ mode: "race" }, () =>
      Promise.race([
        step.run("fast", () => "fast"),
        step.sleep("slow", "3s"),
      ]),
    );
    return step.run("after", () => winner);
  }),
);

// Checkpointing off: each step is an answer of its own.
functions.push(
  define({ id: "uncheckpointed", retries: 0, checkpointing: false }, on("uncheckpointed"), async ({ step }) => {
    const a = await step.run("a", () => 1);
    return a + (await step.run("b", () => 2));
  }),
);

const later = createDefer(client, { id: "later", retries: 0 }, ({ event }) => note(event.data.key, event.data));
functions.push(
  later,
  define({ id: "defers", retries: 0 }, on("defers"), async ({ event, step, defer }) => {
    const { key } = event.data;
    await step.run("before", () => note(key, "before"));
    await defer("later", { function: later, data: { key, n: 7 } });
    await step.run("after", () => note(key, "after"));
    return "done";
  }),
);

class Greeting extends Middleware.BaseMiddleware {
  id = "greeting";
  transformFunctionInput(given) {
    return { ...given, ctx: { ...given.ctx, greeting: `hello from ${given.ctx.event.data.key}` } };
  }
  async wrapStepHandler({ next }) {
    return `[${await next()}]`;
  }
  async wrapFunctionHandler({ next }) {
    return { wrapped: await next() };
  }
}
functions.push(
  define({ id: "with-middleware", retries: 0, middleware: [Greeting] }, on("with-middleware"), ({ step, greeting }) =>
    step.run("greet", () => greeting),
  ),
);

// Realtime: what a run publishes comes to the journal of whoever asked this app to subscribe.
const news = realtime.channel({ name: (key) => `news-${key}`, topics: { progress: { schema: staticSchema() } } });
functions.push(
  define({ id: "publishes", retries: 0 }, on("publishes"), async ({ event, step }) => {
    const channel = news(event.data.key);
    await client.realtime.publish(channel.progress, { at: "once" });
    await step.realtime.publish("durably", channel.progress, { at: "durably" });
    return "published";
  }),
);
const controls = {
  "/send": async (events) => (await client.send(events)).ids,
  "/signal": async ({ signal, data }) => (await client.sendSignal({ signal, data })) ?? null,
  "/subscribe": async ({ channel, topics, key }) => {
    await subscribe({ app: client, channel, topics, onMessage: ({ data }) => note(key, data) });
    return "subscribed";
  },
};

// The same keys as in Python: neither step results nor what is in `data.encrypted` is readable on the server.
const secret = new Inngest({ id: `${app}-secret`, logger, middleware: [encryptionMiddleware({ key: "not-a-secret" })] });
const hidden = [
  secret.createFunction(
    { id: "hides", retries: 0, triggers: [{ event: `${app}-secret/hides` }] },
    async ({ event, step }) => {
      const a = await step.run("a", () => `${event.data.encrypted.word} and more`);
      await step.sleep("nap", "1s");
      note(event.data.key, a);
      return a;
    },
  ),
];
controls["/send-secret"] = async (events) => (await secret.send(events)).ids;

// Answers that begin before they are known.
const streamed = new Inngest({ id: `${app}-streamed`, logger });
const slow = [
  streamed.createFunction(
    { id: "two-steps", retries: 0, triggers: [{ event: `${app}-streamed/two-steps` }] },
    async ({ event, step }) => {
      const a = await step.run("a", () => ({ n: event.data.n + 1 }));
      return { a, b: await step.run("b", () => a.n + 1) };
    },
  ),
];

host(
  {
    "/api/inngest": serve({ client, functions }),
    "/api/secret": serve({ client: secret, functions: hidden, servePath: "/api/secret" }),
    "/api/streamed": serve({ client: streamed, functions: slow, servePath: "/api/streamed", streaming: true }),
  },
  controls,
);
