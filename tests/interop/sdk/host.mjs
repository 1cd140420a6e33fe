// What the JavaScript apps share: the journal, and a small HTTP server around the SDK's handlers.

import http from "node:http";

const journal = new Map();

/** Notes that something happened now; returns how often this was noted under the key. */
export function note(key, what) {
  const entries = journal.get(key) ?? [];
  journal.set(key, [...entries, { what, at: Date.now() }]);
  const same = JSON.stringify(what);
  return journal.get(key).filter((entry) => JSON.stringify(entry.what) === same).length;
}

/** A logger of which the journal keeps what it was told, under the text's first word. */
export const logger = {
  info: (...texts) => note(String(texts.at(-1)).split(" ")[0], String(texts.at(-1))),
  warn: (...texts) => console.error("warn:", ...texts),
  error: (...texts) => console.error("error:", ...texts),
  debug: () => {},
};

async function bodyOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return JSON.parse(Buffer.concat(parts).toString() || "null");
}

/**
 * Serves until it is killed.
 *
 * `handlers` are the SDK's, by path. `controls` are what the tests ask for besides, by path: they get the JSON that
 * was posted and return what is answered.
 */
export function host(handlers, controls = {}) {
  const server = http.createServer(async (request, response) => {
    const url = new URL(request.url, "http://app");
    const handler = handlers[url.pathname];
    if (handler) return handler(request, response);
    const answer = (status, body) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(body ?? null));
    };
    if (url.pathname === "/journal") return answer(200, journal.get(url.searchParams.get("key")) ?? []);
    const control = controls[url.pathname];
    if (!control) return answer(404, { error: `nothing is at ${url.pathname}` });
    try {
      answer(200, await control(await bodyOf(request)));
    } catch (error) {
      answer(500, { error: String(error.message ?? error) });
    }
  });
  server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", () =>
    console.log(`app listens on http://127.0.0.1:${server.address().port}`),
  );
}
