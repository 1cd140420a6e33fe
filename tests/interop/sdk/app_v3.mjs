// The catalogue on npm's `inngest` version 3, over node's own HTTP server.

import * as sdk from "inngest-v3";
import { serve } from "inngest-v3/node";

import { catalogue } from "./catalogue.mjs";
import { host, logger, note } from "./host.mjs";

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

host(
  { "/api/inngest": serve({ client, functions }) },
  { "/send": async (events) => (await client.send(events)).ids },
);
