// What chats of React show of a server, in jsdom: `node react.mjs <url> <scenario>,...` prints JSON.
// `mastra` is `useChat` of @mastra/react, with and without the signals of threads; `aisdk` is that of @ai-sdk/react.

import { JSDOM } from "jsdom";

const dom = new JSDOM("<!doctype html><div id=root></div>", { url: "http://localhost/" });
for (const name of ["window", "document", "HTMLElement", "Node", "localStorage", "MutationObserver"]) {
  globalThis[name] ??= name === "window" ? dom.window : dom.window[name];
}
Object.defineProperty(globalThis, "navigator", { value: dom.window.navigator, configurable: true });

const { createElement, useEffect } = await import("react");
const { createRoot } = await import("react-dom/client");
const mastra = await import("@mastra/react");
const sdk = await import("@ai-sdk/react");
const { DefaultChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses } = await import("ai");

const [baseUrl, chosen] = process.argv.slice(2);
const fetched = globalThis.fetch;
let subscribed = 0;
globalThis.fetch = async (url, ...more) => {
  const response = await fetched(url, ...more);
  if (String(url).endsWith("/threads/subscribe")) subscribed += 1;
  return response;
};

/** Draws a hook; what this gives tells what the hook gave last, nothing before its effects are done. */
function drawn(useHook, wrap = (child) => child) {
  let last;
  const Probe = () => {
    const found = useHook();
    useEffect(() => {
      last = found;
    });
    return null;
  };
  const root = createRoot(document.body.appendChild(document.createElement("div")));
  root.render(wrap(createElement(Probe)));
  return () => last;
}

async function until(condition, what) {
  const limit = Date.now() + 30_000;
  while (Date.now() < limit) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`never: ${what}`);
}

const inMastra = (child) => createElement(mastra.MastraReactProvider, { baseUrl }, child);
const texts = (messages) =>
  messages.map(({ role, content }) => [role, content.parts.filter((part) => part.type === "text").map((part) => part.text).join("")]);
const calls = (messages) =>
  messages.flatMap(({ content }) => content.parts.flatMap((part) => (part.toolInvocation ? [part.toolInvocation] : [])));

async function plain(mode, message, more = {}) {
  const chat = drawn(() => mastra.useChat({ agentId: "my-agent", resourceId: "ada", ...more }), inMastra);
  await until(() => chat(), "drawn");
  await chat().sendMessage({ mode, message, threadId: more.threadId });
  return chat;
}

const ended = (chat, text) => until(() => texts(chat().messages).some(([role, said]) => role === "assistant" && said.includes(text)), text);

const scenarios = {
  async mastra() {
    const streamed = await plain("stream", "hello stream", { threadId: "r-1" });
    await ended(streamed, "Echo: hello stream");
    const generated = await plain("generate", "hello generate", { threadId: "r-2" });
    await ended(generated, "Echo: hello generate");
    const network = await plain("network", "!net agent:researcher Research this topic", {
      agentId: "network-agent",
      threadId: "r-3",
    });
    await until(() => JSON.stringify(network().messages).includes("Final network answer."), "the network's answer");
    const asked = await plain("stream", '!tool deleteThing {"thing":"q"}', { threadId: "r-4" });
    await until(() => asked().isAwaitingToolApproval, "a question");
    await asked().approveToolCall(calls(asked().messages)[0].toolCallId);
    await ended(asked, "Tool said");
    const declined = await plain("stream", '!tool deleteThing {"thing":"q"}', { threadId: "r-5" });
    await until(() => declined().isAwaitingToolApproval, "another question");
    await declined().declineToolCall(calls(declined().messages)[0].toolCallId);
    await ended(declined, "not approved");
    return {
      streamed: texts(streamed().messages),
      generated: texts(generated().messages),
      network: network().messages.map((each) => each.role),
      approved: calls(asked().messages).map(({ state, result }) => [state, result]),
      declined: calls(declined().messages).map(({ state }) => state),
    };
  },

  async signals() {
    const found = {};
    for (const agentId of ["my-agent", "durable-agent"]) {
      const threadId = `s-${agentId}`;
      const props = { agentId, threadId, resourceId: "ada", enableThreadSignals: true };
      const before = subscribed;
      const chat = drawn(() => mastra.useChat(props), inMastra);
      const beside = drawn(() => mastra.useChat(props), inMastra);
      await until(() => chat() && beside() && subscribed >= before + 2, "subscribed");
      await chat().sendMessage({ mode: "stream", message: "hello signals", threadId });
      await ended(chat, "Echo: hello signals");
      await ended(beside, "Echo: hello signals");
      await chat().sendMessage({ mode: "stream", message: '!tool deleteThing {"thing":"q"}', threadId });
      await until(() => chat().isAwaitingToolApproval, "a question");
      await chat().approveToolCall(calls(chat().messages)[0].toolCallId);
      await ended(chat, "Tool said");
      found[agentId] = {
        texts: texts(chat().messages).filter(([, text]) => text),
        calls: calls(chat().messages).map(({ state, result }) => [state, result]),
        beside: texts(beside().messages)[0],
      };
    }
    return found;
  },

  async aisdk() {
    const transport = new DefaultChatTransport({
      api: `${baseUrl}/chat/durable-agent`,
      headers: { "x-ai-sdk-format": "v6" },
    });
    const chat = drawn(() =>
      sdk.useChat({
        id: "a1",
        transport,
        sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
      }),
    );
    await until(() => chat(), "drawn");
    await chat().sendMessage({ text: "hello there" });
    await until(() => chat().status === "ready" && chat().messages.length === 2, "an answer");
    await chat().sendMessage({ text: '!tool deleteThing {"thing":"q"}' });
    const asking = () => chat().messages.at(-1).parts.find((part) => part.state === "approval-requested");
    await until(() => chat().status === "ready" && asking(), "a question");
    await chat().addToolApprovalResponse({ id: asking().approval.id, approved: true });
    await until(() => JSON.stringify(chat().messages).includes("Tool said"), "the rest");
    await until(() => chat().status === "ready", "the end");
    return chat().messages.map(({ role, parts }) => [role, parts.map((part) => part.state ?? part.type)]);
  },
};

const found = {};
for (const name of chosen.split(",")) found[name] = await scenarios[name]();
console.log(JSON.stringify(found));
process.exit(0);
