// Calls methods of the published client as scenarios say, and prints what the server has answered to each request.
//
// `node replay.mjs <url> < scenarios.json`. A scenario is `{name, steps}`, a step `{call, args, agent?, thread?}`, and
// perhaps `keep` (it goes on beside the next ones; with `open` nobody waits for its end), `after` (`{exchange, type,
// count?}`: what must have been heard before), `settle` (all that was begun must be over before), `until` (`{type,
// count}`: what a subscription hears at last) and `least` (it is called until it counts as many). In arguments,
// "{{0.runId}}" is the run of exchange 0.

import { MastraClient } from "@mastra/client-js";

const PATIENCE = 60_000;

async function until(condition, what) {
  const end = Date.now() + PATIENCE;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((done) => setTimeout(done, 5));
  }
}

async function follow(response, exchange) {
  const decoder = new TextDecoder();
  let text = "";
  try {
    for await (const bytes of response.body) {
      text += decoder.decode(bytes, { stream: true });
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        if (block === "data: [DONE]") exchange.done = true;
        else if (block.startsWith("data: ")) exchange.events.push(JSON.parse(block.slice(6)));
      }
    }
  } catch {
    exchange.cut = true;
  }
}

class Replay {
  constructor(url, scenario) {
    this.scenario = scenario;
    this.exchanges = [];
    this.failures = [];
    this.open = [];
    this.following = [];
    this.expected = [];
    this.going = [];
    this.client = new MastraClient({ baseUrl: url, retries: 0, fetch: (...given) => this.fetch(...given) });
  }

  async fetch(url, init) {
    const { pathname } = new URL(url);
    const exchange = { method: init?.method ?? "GET", path: pathname };
    this.exchanges.push(exchange);
    const response = await fetch(url, init);
    exchange.status = response.status;
    const copy = response.clone();
    if (response.headers.get("content-type")?.startsWith("text/event-stream")) {
      exchange.events = [];
      exchange.following = follow(copy, exchange);
      return response;
    }
    const text = await copy.text();
    try {
      exchange.body = JSON.parse(text);
    } catch {
      exchange.body = text;
    }
    return response;
  }

  named(name) {
    const [place, field, which] = name.split(".");
    const { body, events = [] } = this.exchanges[Number(place)];
    const payloads = events.map((each) => each.payload ?? {});
    const told = field === "runId" ? [body?.runId, ...events.map((each) => each.runId)] : [];
    if (field === "toolCallId") {
      const asked = events.filter((each) => ["tool-call-approval", "tool-call-suspended"].includes(each.type));
      told.push(body?.suspendPayload?.toolCallId, ...asked.map((each) => each.payload.toolCallId));
    }
    if (field === "taskId") told.push(...payloads.map((each) => each.taskId), ...(body?.tasks ?? []).map((each) => each.id));
    return [...new Set(told.filter((each) => each !== undefined))][Number(which ?? 0)];
  }

  filled(value) {
    if (typeof value === "string") return value.replace(/^\{\{(.+)\}\}$/, (_, name) => this.named(name));
    if (Array.isArray(value)) return value.map((each) => this.filled(each));
    if (value === null || typeof value !== "object") return value;
    const found = Object.fromEntries(Object.entries(value).map(([name, each]) => [name, this.filled(each)]));
    if (found.$date) return new Date(found.$date);
    if (found.$returns !== undefined) return { ...found, execute: async () => found.$returns };
    if (found.$throws !== undefined) {
      const thrown = async () => {
        throw new Error(found.$throws);
      };
      return { ...found, execute: thrown };
    }
    return found;
  }

  async call({ call, args = [], agent, thread }) {
    const filled = this.filled(args);
    let target = this.client;
    if (agent) target = this.client.getAgent(agent);
    else if (thread) target = this.client.getMemoryThread(thread);
    else if (call.startsWith("tool.")) target = this.client.getTool(filled.shift());
    const found = await target[call.replace("tool.", "")](...filled);
    if (found instanceof ReadableStream) return void this.following.push(found);
    if (!found?.processDataStream) return;
    if (call === "subscribeToThread") {
      this.open.push(found);
      this.following.push(found.processDataStream({ onChunk: async () => {} }).catch(() => {}));
    } else await found.processDataStream({ onChunk: async () => {} });
  }

  async step(step) {
    if (step.settle) await this.settle();
    if (step.after) {
      const { exchange, type, count = 1 } = step.after;
      await until(() => this.heard(exchange, type) >= count, `${count} ${type} in ${exchange}`);
    }
    const index = this.exchanges.length;
    const going = this.call(step).catch((error) => this.failures.push(String(error.status ?? error)));
    if (step.keep) {
      await until(() => this.exchanges[index]?.events !== undefined, "the headers of a stream");
      if (step.until) this.expected.push({ index, ...step.until });
      else if (!step.open) this.going.push(going);
    } else await going;
    while (step.least && this.exchanges[index].body?.total < step.least) {
      // Not yet: as if it had not been asked.
      this.exchanges.length = index;
      await new Promise((done) => setTimeout(done, 20));
      await this.call(step);
    }
  }

  heard(exchange, type) {
    return (this.exchanges[exchange]?.events ?? []).filter((each) => each.type === type).length;
  }

  async settle() {
    const late = new Promise((_, fail) => setTimeout(fail, PATIENCE, new Error("waited in vain for streams")).unref());
    await Promise.race([Promise.all(this.going), late]);
    for (const { index, type, count } of this.expected) {
      await until(() => this.heard(index, type) >= count, `${count} ${type} in ${index}`);
    }
  }

  async run() {
    try {
      for (const step of this.scenario.steps) await this.step(step);
      await this.settle();
    } catch (error) {
      this.failures.push(String(error.stack ?? error));
    }
    const streamed = this.exchanges.filter((each) => each.events && !this.expected.some((one) => this.exchanges[one.index] === each));
    await Promise.race([Promise.all(streamed.map((each) => each.following)), new Promise((done) => setTimeout(done, 500))]);
    for (const each of this.open) each.unsubscribe();
    return {
      name: this.scenario.name,
      failures: this.failures,
      exchanges: this.exchanges.map(({ following, ...told }) => told),
    };
  }
}

const methods = (made) => Object.getOwnPropertyNames(Object.getPrototypeOf(made)).filter((name) => name !== "constructor");
const [url] = process.argv.slice(2);
let given = "";
for await (const bytes of process.stdin) given += bytes;
// What a stream that was cut off throws elsewhere is no failure of a scenario.
process.on("unhandledRejection", () => {});
const client = new MastraClient({ baseUrl: url });
const told = {
  methods: { client: methods(client), agent: methods(client.getAgent("a")), thread: methods(client.getMemoryThread({ threadId: "t" })), tool: methods(client.getTool("t")) },
  replays: await Promise.all(JSON.parse(given).map((scenario) => new Replay(url, scenario).run())),
};
process.stdout.write(JSON.stringify(told), () => process.exit(0));
