// The functions that every JavaScript app of these tests serves. catalogue.py has their twins in Python.
//
// Function `x` of app `a` is triggered by the event `a/x`. Its event's `data.key` is unique to the test that sent it:
// what a function does besides returning is noted under that key, and the test reads it at GET /journal?key=...

export function catalogue({ app, sdk, define, note }) {
  const { NonRetriableError, RetryAfterError, referenceFunction } = sdk;
  const functions = {};
  const add = (id, options, handler, triggers = [{ event: `${app}/${id}` }]) => {
    functions[id] = define({ id, retries: 0, ...options }, triggers, handler);
  };
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));

  // Steps.

  add("plain", {}, ({ event, attempt, runId }) => ({ data: event.data, name: event.name, attempt, runId }));

  add("two-steps", {}, async ({ event, step }) => {
    const { key, n } = event.data;
    const a = await step.run("a", () => (note(key, "a"), { n: n + 1 }));
    const b = await step.run("b", () => (note(key, "b"), a.n + 1));
    return { a, b };
  });

  add("nothing", {}, async ({ step }) => {
    const none = await step.run("none", () => undefined);
    const nil = await step.run("nil", () => null);
    await step.run("after", () => ({ none: none ?? null, nil }));
  });

  add("same-ids", {}, async ({ step }) => {
    const found = [];
    for (const n of [1, 2, 3]) found.push(await step.run("same", () => n * n));
    return found;
  });

  add("large-state", {}, async ({ event, step }) => {
    let total = 0;
    for (const n of [1, 2, 3, 4, 5]) total += (await step.run(`part ${n}`, () => "x".repeat(event.data.size))).length;
    await step.sleep("nap", "1s");
    return step.run("sum", () => total);
  });

  add("sleep", {}, async ({ step }) => {
    const before = await step.run("before", () => Date.now());
    await step.sleep("nap", "1s");
    const between = await step.run("between", () => Date.now());
    await step.sleepUntil("until", new Date(between + 1000));
    const after = await step.run("after", () => Date.now());
    return { nap: between - before, until: after - between };
  });

  add("parallel", {}, async ({ event, step }) => {
    const { key } = event.data;
    const work = (name) => async () => {
      note(key, `${name} begins`);
      await pause(200);
      note(key, `${name} ends`);
      return name;
    };
    const [one, two, nap] = await Promise.all([
      step.run("one", work("one")),
      step.run("two", work("two")),
      step.sleep("nap", "1s"),
    ]);
    return step.run("join", () => [one, two, nap ?? null]);
  });

  add("chains", {}, async ({ step }) => {
    const chain = async (name) => {
      const first = await step.run(`${name} 1`, () => 1);
      return step.run(`${name} 2`, () => first + 1);
    };
    return Promise.all([chain("left"), chain("right")]);
  });

  add("send-event", {}, async ({ event, step }) => {
    const { key } = event.data;
    const sent = await step.sendEvent("send", [1, 2].map((n) => ({ name: `${app}/sent`, data: { key, n } })));
    return sent.ids;
  });

  add("on-sent", {}, ({ event }) => note(event.data.key, `sent ${event.data.n}`), [{ event: `${app}/sent` }]);

  // Waits.

  add("wait-match", {}, ({ step }) =>
    step.waitForEvent("approval", { event: `${app}/approved`, timeout: "2m", match: "data.key" }),
  );

  add("wait-if", {}, ({ step }) =>
    step.waitForEvent("approval", {
      event: `${app}/approved`,
      timeout: "2m",
      if: "event.data.key == async.data.key && async.data.n > 1",
    }),
  );

  add("wait-timeout", {}, async ({ step }) => ({
    got: await step.waitForEvent("approval", { event: `${app}/never`, timeout: "1s" }),
  }));

  add("wait-signal", {}, ({ event, step }) =>
    step.waitForSignal("signal", { signal: event.data.key, timeout: "2m", onConflict: "fail" }),
  );

  add("signal-timeout", {}, async ({ event, step }) => ({
    got: await step.waitForSignal("signal", { signal: event.data.key, timeout: "1s", onConflict: "fail" }),
  }));

  add("send-signal", {}, async ({ event, step }) => {
    await step.sendSignal("send", { signal: event.data.signal, data: { from: app } });
    return "sent";
  });

  // Invocations.

  add("child", {}, async ({ event, step }) => ({ by: app, doubled: await step.run("double", () => event.data.n * 2) }));

  add("child-fails", {}, () => {
    throw new NonRetriableError("the child is broken");
  });

  add("child-sleeps", {}, ({ step }) => step.sleep("long", "5m"));

  add("invoke", {}, ({ event, step }) =>
    step.invoke("call", { function: functions["child"], data: { n: event.data.n } }),
  );

  add("invoke-other", {}, async ({ event, step }) => {
    const { app: appId, fn: functionId, n, timeout } = event.data;
    try {
      return {
        result: await step.invoke("call", { function: referenceFunction({ appId, functionId }), data: { n }, timeout }),
      };
    } catch (error) {
      return { name: error.name, message: error.message };
    }
  });

  // Failures.

  add("step-retry", { retries: 3 }, ({ event, step }) =>
    step.run("flaky", () => {
      if (note(event.data.key, "try") < 3) throw new Error("not yet");
      return "at last";
    }),
  );

  add("step-exhausted", { retries: 1 }, async ({ event, step }) => {
    try {
      await step.run("bad", () => {
        note(event.data.key, "try");
        throw new TypeError("never");
      });
    } catch (error) {
      return step.run("recover", () => ({ message: error.message }));
    }
  });

  add("step-final", { retries: 3 }, async ({ event, step }) => {
    try {
      await step.run("bad", () => {
        note(event.data.key, "try");
        throw new NonRetriableError("never ever");
      });
    } catch (error) {
      return { message: error.message };
    }
  });

  add("step-uncaught", { retries: 1 }, ({ event, step }) =>
    step.run("bad", () => {
      note(event.data.key, "try");
      throw new Error("uncaught");
    }),
  );

  add("retry-after", { retries: 2 }, ({ event, attempt }) => {
    note(event.data.key, `attempt ${attempt}`);
    if (attempt === 0) throw new RetryAfterError("later", "3s");
    return { attempt };
  });

  add("step-retry-after", { retries: 2 }, ({ event, step }) =>
    step.run("later", () => {
      if (note(event.data.key, "try") < 2) throw new RetryAfterError("later", "3s");
      return "later";
    }),
  );

  add("function-retry", { retries: 2 }, async ({ event, attempt, step }) => {
    const kept = await step.run("kept", () => note(event.data.key, "step"));
    if (attempt < 2) throw new Error(`attempt ${attempt}`);
    return { kept, attempt };
  });

  const failed = async ({ event, error, step }) =>
    step.run("report", () =>
      note(event.data.event.data.key, { message: error.message, function: event.data.function_id, run: event.data.run_id }),
    );

  add("fails", { retries: 1, onFailure: failed }, ({ event, attempt }) => {
    note(event.data.key, `attempt ${attempt}`);
    throw new Error(`broken ${attempt}`);
  });

  add("fails-finally", { retries: 3, onFailure: failed }, ({ event }) => {
    note(event.data.key, "attempt");
    throw new NonRetriableError("hopeless", { cause: new Error("the reason") });
  });

  // Ends from outside, and starts that wait, merge or do not happen.

  add("cancel-on", { cancelOn: [{ event: `${app}/stop`, match: "data.key" }] }, ({ step }) => step.sleep("long", "1h"));

  add("finish-timeout", { timeouts: { finish: "1s" } }, ({ step }) => step.sleep("long", "1h"));

  const busy = async ({ event, step }) => {
    const { key, n } = event.data;
    await step.run("work", async () => {
      note(key, `${n} begins`);
      await pause(event.data.ms ?? 200);
      note(key, `${n} ends`);
    });
    return n;
  };

  add("one-at-a-time", { concurrency: { limit: 1, key: "event.data.key" } }, busy);
  add("start-timeout", { concurrency: { limit: 1, key: "event.data.key" }, timeouts: { start: "1s" } }, busy);
  add("throttled", { throttle: { limit: 1, period: "1s", key: "event.data.key" } }, busy);
  add("rate-limited", { rateLimit: { limit: 1, period: "1m", key: "event.data.key" } }, busy);
  add("debounced", { debounce: { period: "1s", key: "event.data.key" } }, busy);
  add("idempotent", { idempotency: "event.data.key" }, busy);
  add(
    "prioritised",
    { concurrency: { limit: 1, key: "event.data.key" }, priority: { run: "event.data.priority" } },
    busy,
  );
  add("batched", { batchEvents: { maxSize: 3, timeout: "30s", key: "event.data.key" } }, ({ events }) =>
    events.map((each) => each.data.n),
  );
  add("batched-late", { batchEvents: { maxSize: 9, timeout: "1s", key: "event.data.key" } }, ({ events }) =>
    events.map((each) => each.data.n),
  );
  add("singleton-skip", { singleton: { mode: "skip", key: "event.data.key" } }, ({ step }) => step.sleep("nap", "2s"));
  add("singleton-cancel", { singleton: { mode: "cancel", key: "event.data.key" } }, async ({ event, step }) => {
    await step.sleep("nap", "2s");
    return event.data.n;
  });
  add("filtered", {}, busy, [{ event: `${app}/filtered`, if: "event.data.n > 1" }]);
  add("wild", {}, ({ event }) => event.name, [{ event: `${app}/wild.*` }]);
  add("every", {}, ({ event }) => note("every", event.data), [{ cron: "@every 2s" }]);
  add("yearly", {}, () => null, [{ cron: "TZ=Europe/Paris 0 9 1 1 *" }]);

  // What the server does for a step.

  add("fetch", {}, async ({ event, step }) => {
    const response = await step.fetch(`${event.data.provider}/echo?q=1`, {
      method: "POST",
      headers: { "x-asked": "yes", "content-type": "application/json" },
      body: JSON.stringify({ hello: "there" }),
    });
    return { status: response.status, ...(await response.json()) };
  });

  add("infer", {}, async ({ event, step }) => {
    const answer = await step.ai.infer("ask", {
      model: step.ai.models.openai({ model: "gpt-x", apiKey: "sk-test", baseUrl: `${event.data.provider}/v1` }),
      body: { messages: [{ role: "user", content: "hello" }] },
    });
    return answer.choices[0].message.content;
  });

  add("wrap", {}, ({ event, step }) =>
    step.ai.wrap("think", async (a, b) => (note(event.data.key, "thought"), a + b), 2, 3),
  );

  // Logging is done once, however often the function is called again.
  add("logs", {}, async ({ event, step, logger }) => {
    logger.info(`${event.data.key} first`);
    await step.run("a", () => logger.info(`${event.data.key} in the step`));
    await step.sleep("nap", "1s");
    logger.info(`${event.data.key} last`);
  });

  return functions;
}
