// What the AI SDK sees of a server: `node chat.mjs <url> <v5|v6> <scenario>,...` prints JSON.
// `same` runs each prompt through the agents protocol and `toAISdkStream`, and through /chat, and prints both.

import { toAISdkStream } from "@mastra/ai-sdk";
import { MastraClient } from "@mastra/client-js";
import * as newer from "ai";
import * as older from "ai5";

const [baseUrl, format, chosen] = process.argv.slice(2);
const headers = { "x-ai-sdk-format": format };
const ai = format === "v5" ? older : newer;
const client = new MastraClient({ baseUrl, retries: 0 });
let asked = 0;

const said = (text) => ({ id: `u${++asked}`, role: "user", parts: [{ type: "text", text }] });

async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

/** One request of a chat, as useChat makes it: its parts, and the message that they make. */
async function turn(agent, messages, { id = `c-${format}`, trigger = "submit-message", body = {}, route = "chat" } = {}) {
  const transport = new ai.DefaultChatTransport({ api: `${baseUrl}/${route}/${agent}`, headers });
  const stream = await transport.sendMessages({ chatId: id, messages, trigger, body });
  const [seen, read] = stream.tee();
  const last = messages.at(-1)?.role === "assistant" && trigger !== "regenerate-message" ? messages.at(-1) : undefined;
  const [parts, drawn] = await Promise.all([
    all(seen),
    (async () => {
      let message;
      for await (const each of ai.readUIMessageStream({ stream: read, message: structuredClone(last) })) message = each;
      return message;
    })(),
  ]);
  return { parts, message: drawn };
}

async function again(agent, id) {
  const transport = new ai.DefaultChatTransport({ api: `${baseUrl}/chat/${agent}`, headers });
  const stream = await transport.reconnectToStream({ chatId: id });
  return stream === null ? null : all(stream);
}

async function converted(agent, prompt, options, how) {
  const response = await client.getAgent(agent).stream(prompt, options);
  const frames = new ReadableStream({
    async start(controller) {
      await response.processDataStream({ onChunk: async (chunk) => controller.enqueue(chunk) });
      controller.close();
    },
  });
  return all(toAISdkStream(frames, { from: "agent", version: format, ...how }));
}

const answered = (message, approved, reason) => ({
  ...message,
  parts: message.parts.map((part) =>
    part.state === "approval-requested"
      ? { ...part, state: "approval-responded", approval: { id: part.approval.id, approved, reason } }
      : part,
  ),
});

const scenarios = {
  async same() {
    const object = { structuredOutput: { schema: { type: "object", properties: { n: { type: "number" } } } } };
    const more = { sendReasoning: true, sendSources: true };
    const cases = [
      ["my-agent", "Tell me a story"],
      ["my-agent", '!saytool weather {"city":"Paris"}'],
      ["my-agent", '!tools weather {"city":"Oslo"} | findUser {"name":"Ada"}'],
      ["my-agent", "!error kaboom"],
      ["my-agent", "!miderror broke"],
      ["my-agent", "!tool failTool {}"],
      ["my-agent", '!tool weather {"city":5}'],
      ["my-agent", "!reason why", {}, more],
      ["my-agent", "!reason why"],
      ["my-agent", "!source", {}, more],
      ["my-agent", "!file", {}, more],
      ["my-agent", '!json {"n":1}', object],
      ["my-agent", '!tool deleteThing {"thing":"x"}'],
      ["my-agent", '!tool askHuman {"question":"q"}'],
      ["supervisor", '!tool agent-researcher {"prompt":"find it"}'],
      ["guard-agent", "FORBIDDEN"],
    ];
    const found = [];
    for (const [agent, prompt, options = {}, how = {}] of cases) {
      const theirs = await converted(agent, prompt, options, how);
      const ours = await turn(agent, [said(prompt)], { body: { ...options, ...how } }).catch(() => null);
      const raw = await fetch(`${baseUrl}/chat/${agent}?format=${format}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ messages: [said(prompt)], ...options, ...how }),
      });
      const text = await raw.text();
      const told = text.split("\n\n").filter((block) => block.startsWith("data: {"));
      found.push({ prompt, theirs, ours: told.map((block) => JSON.parse(block.slice(6))), read: ours !== null });
    }
    return found;
  },

  async chat() {
    const agent = "durable-agent";
    const memory = { thread: `t-${format}`, resource: "ada" };
    const question = said("hello");
    const first = await turn(agent, [question], { body: { memory } });
    const second = await turn(agent, [question, first.message, said("again")], { body: { memory } });
    const regenerated = await turn(agent, [question, first.message], { trigger: "regenerate-message", id: "c2" });
    const thread = client.getMemoryThread({ threadId: memory.thread, agentId: agent });
    return { first, second, regenerated, messages: (await thread.listMessages()).messages, idle: await again(agent, `c-${format}`) };
  },

  async approval() {
    const found = {};
    for (const agent of ["my-agent", "durable-agent"]) {
      for (const approved of [true, false]) {
        const question = said('!tool deleteThing {"thing":"x"}');
        const id = `${format}-${agent}-${approved}`;
        const asked = await turn(agent, [question], { id });
        if (format === "v5") {
          const { runId } = asked.parts.at(-1).data;
          const body = { runId, resumeData: { approved, reason: "too risky" } };
          const done = await turn(agent, [question, asked.message], { id, body });
          found[`${agent} ${approved}`] = { asked, done };
        } else {
          const reply = answered(asked.message, approved, "too risky");
          found[`${agent} ${approved}`] = { asked, done: await turn(agent, [question, reply], { id }) };
        }
      }
    }
    return found;
  },

  async resume() {
    // The client leaves in the middle of an answer, and comes back.
    const chatId = "left";
    const leaving = new AbortController();
    const transport = new ai.DefaultChatTransport({ api: `${baseUrl}/chat/durable-agent`, headers });
    const stream = await transport.sendMessages({
      chatId,
      messages: [said("!slow 20 60")],
      trigger: "submit-message",
      abortSignal: leaving.signal,
    });
    let before = 0;
    try {
      for await (const part of stream) if (part.type === "text-delta" && ++before === 3) leaving.abort();
    } catch {
      // It has left.
    }
    const rest = await again("durable-agent", chatId);
    return { before, rest, idle: await again("durable-agent", chatId), unknown: await again("durable-agent", "nobody") };
  },

  async network() {
    const prompt = "!net agent:researcher Research this topic";
    const memory = { thread: "n0", resource: "ada" };
    const response = await client.getAgent("network-agent").network(prompt, { memory });
    const frames = new ReadableStream({
      async start(controller) {
        await response.processDataStream({ onChunk: async (chunk) => controller.enqueue(chunk) });
        controller.close();
      },
    });
    const theirs = await all(toAISdkStream(frames, { from: "network", version: format }));
    return { ...(await turn("network-agent", [said(prompt)], { route: "network", id: "n1" })), theirs };
  },

  async failures() {
    const found = [];
    const post = async (path, body) => {
      const response = await fetch(baseUrl + path, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
      found.push([response.status, (await response.json()).error]);
    };
    await post("/chat/nope", { messages: [said("x")] });
    await post("/chat/my-agent", {});
    await post("/chat/my-agent", { messages: [said("x")], resumeData: { approved: true } });
    await post("/chat/my-agent", { messages: [said("x")], resumeData: { approved: true }, runId: "nobody" });
    await post("/chat/my-agent?format=v4", { messages: [said("x")] });
    await post("/network/plain-agent", { messages: [said("x")] });
    return found;
  },
};

const found = {};
for (const name of chosen.split(",")) found[name] = await scenarios[name]();
console.log(JSON.stringify(found));
