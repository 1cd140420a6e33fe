// Functions on npm's `inngest` version 4 that try a server: what they defer, inherit, score and leave half done.

import { Inngest, NonRetriableError, group } from "inngest";
import { createDefer, createScorer, scoreMiddleware } from "inngest/experimental";
import { serve } from "inngest/node";

import { host, logger, note } from "./host.mjs";

const app = process.env.APP_ID ?? "js-scenarios";
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const client = new Inngest({ id: app, logger, middleware: [scoreMiddleware()], sessionPropagation: true });
const functions = [];

/** A function twice: as SDKs call the server by default, and without checkpoints (its id ends in "-plainly"). */
function add(id, options, handler) {
  for (const checkpointing of [true, false]) {
    const own = checkpointing ? id : `${id}-plainly`;
    const triggers = [{ event: `${app}/${own}` }];
    functions.push(client.createFunction({ id: own, retries: 0, checkpointing, ...options, triggers }, handler));
  }
}

/** A step that notes its name each time it is done, and takes some ms. */
const work = (context, name, ms = 0) =>
  context.step.run(name, async () => {
    note(context.event.data.key, name);
    await pause(ms);
    return name;
  });

// Sessions.

const told = ({ event, sessions }) => note(event.data.key, sessions ?? null);
const invoked = client.createFunction({ id: "told-invoked", retries: 0 }, told);
const deferred = createDefer(client, { id: "told-deferred", retries: 0 }, told);
functions.push(invoked, deferred, client.createFunction({ id: "told", triggers: [{ event: `${app}/told` }] }, told));

add("passes-on", {}, async ({ event, step, defer }) => {
  const { key } = event.data;
  const own = { sessions: { org: "other" } };
  defer("deferred", { function: deferred, data: { key } });
  await step.sendEvent("sent", { name: `${app}/told`, data: { key } });
  await step.sendEvent("overridden", { name: `${app}/told`, data: { key }, meta: own });
  await step.invoke("invoked", { function: invoked, data: { key } });
});

// Defers.

const later = createDefer(client, { id: "later", retries: 0 }, ({ event }) => note(event.data.key, event.data.what));
functions.push(later);
const put = (context, what) => context.defer(what, { function: later, data: { key: context.event.data.key, what } });

add("defers-again", {}, async (context) => {
  put(context, "once");
  await context.step.sleep("nap", "1s");
  put(context, "once");
});
add("defers-and-fails", { retries: 3 }, (context) => {
  note(context.event.data.key, "called");
  put(context, "deferred");
  throw new NonRetriableError("a bad day");
});
add("thinks-better", {}, async (context) => {
  const [atOnce, soon, inStep] = ["at once", "soon", "in a step"].map((what) => put(context, what));
  put(context, "kept");
  atOnce.abort();
  await context.step.sleep("nap", "1s");
  soon.abort();
  await context.step.run("abort", () => inStep.abort());
});

// Scores.

const scorer = createScorer(client, { id: "scorer", retries: 0 }, ({ event }) => {
  note(event.data.key, "scored");
  return { name: "by scorer", value: 3 };
});
functions.push(scorer);
add("scores", {}, async ({ event, runId, step, defer }) => {
  defer("score", { function: scorer, data: { key: event.data.key } });
  await step.run("scored", async () => {
    await client.score({ runId, name: "run, in step", value: 1 });
    await client.score({ runId, stepId: "scored", name: "step, in step", value: 2 });
  });
  await step.score("score the run", { name: "run, as step", value: true });
  await step.score("score the step", { name: "step, as step", stepId: "scored", value: false });
});
add("scores-nothing", {}, ({ step }) => step.score("score", { name: "lost", stepId: "no such step", value: 1 }));

// Parallel steps.

add("races-on", {}, (context) =>
  group.parallel({ mode: "race" }, () =>
    Promise.all([
      work(context, "a", 50).then(() => work(context, "b", 50)),
      work(context, "c", 1500),
    ]),
  ).then(() => work(context, "last")),
);
add("resumes", {}, async (context) => {
  note(context.event.data.key, "called");
  await work(context, "before");
  await Promise.all([work(context, "one"), work(context, "two")]);
  for (const name of ["x", "y", "z"]) await work(context, name);
});

// Answers that come late, or never.

add("runs-out-of-time", { checkpointing: { maxRuntime: 1000 } }, async (context) => {
  note(context.event.data.key, "called");
  await work(context, "before");
  await pause(1500);
  return work(context, "after");
});
add("buffers", { retries: 1, checkpointing: { bufferedSteps: 10 } }, async (context) => {
  for (const name of ["a", "b", "c"]) await work(context, name);
  if (context.attempt === 0) throw new Error("a bad day");
  return "done";
});

host(
  { "/api/inngest": serve({ client, functions }) },
  {
    "/send": async (events) => (await client.send(events)).ids,
    "/score": async (score) => (await client.score(score)) ?? null,
  },
);
