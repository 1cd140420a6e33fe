// Requests to the server, and who is signed in. Paths are relative to the page, so it works below any mount.

const BASE = new URL(".", document.baseURI)

/** What the server refused, or, with status 0, that it did not answer. */
export class ApiError extends Error {
  constructor(status, message, code = "") {
    super(message)
    this.status = status
    this.code = code
  }
}

/** Who uses the page: `role` is "viewer", "operator", "admin" or null; without `signsIn` the server has no keys. */
export const session = { role: null, signsIn: true }

const RANKS = ["viewer", "operator", "admin"]

/** Whether the one who is signed in may do what asks for a role. */
export const may = (role = "operator") => RANKS.indexOf(session.role) >= RANKS.indexOf(role)

export const address = (path) => new URL(path, BASE).href

// The environment that is looked at: "" is the main one. It lasts as long as the tab.
const ENVIRONMENT = "perdure-environment"

export const environment = () => sessionStorage.getItem(ENVIRONMENT) ?? ""

export const chooseEnvironment = (name) => sessionStorage.setItem(ENVIRONMENT, name)

/** Headers with the environment among them. */
export const headers = (others = {}) => (environment() ? { ...others, "x-inngest-env": environment() } : others)

/** A request as it is: the answer, or an `ApiError`. */
export async function ask(method, path, { query, body, signal, headers: given, main } = {}) {
  const url = new URL(path, BASE)
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== "" && each !== null && each !== undefined) url.searchParams.append(name, each)
    }
  }
  const init = { method, signal, headers: { ...(main ? given : headers(given)) } }
  if (body !== undefined) {
    init.headers["content-type"] = "application/json"
    init.body = JSON.stringify(body)
  }
  let answer
  try {
    answer = await fetch(url, init)
  } catch (error) {
    if (error.name === "AbortError") throw error
    throw new ApiError(0, "The server does not answer")
  }
  if (answer.ok) return answer
  const problem = await told(answer)
  if (answer.status === 401 && session.role !== null && path !== "session") {
    session.role = null
    dispatchEvent(new Event("signed-out"))
  }
  throw problem
}

async function told(answer) {
  const text = await answer.text()
  try {
    const body = JSON.parse(text)
    const first = body.errors?.[0]
    const message = first?.message ?? (typeof body.error === "string" ? body.error : body.error?.message)
    return new ApiError(answer.status, message ?? text, first?.code ?? "")
  } catch {
    return new ApiError(answer.status, text.trim().slice(0, 300) || answer.statusText)
  }
}

async function json(answer) {
  const text = await answer.text()
  return text ? JSON.parse(text) : null
}

export const get = async (path, query, signal) => json(await ask("GET", path, { query, signal }))
export const post = async (path, body, query) => json(await ask("POST", path, { body: body ?? {}, query }))
export const patch = async (path, body, query) => json(await ask("PATCH", path, { body, query }))
export const remove = async (path, query) => json(await ask("DELETE", path, { query }))
/** A POST whose answer is read as it comes. */
export const stream = (path, body, signal) => ask("POST", path, { body, signal })

export async function whoAmI() {
  Object.assign(session, await get("session"))
  return session
}

export async function signIn(key) {
  Object.assign(session, await post("session", { key }))
}

export async function signOut() {
  await remove("session")
  session.role = null
  dispatchEvent(new Event("signed-out"))
}

/** Every page of a list of v2 (apps, functions), which are few. */
export async function every(path, query, signal) {
  const all = []
  let cursor = ""
  do {
    const { data, page } = await get(path, { ...query, limit: 100, cursor }, signal)
    all.push(...data)
    cursor = page?.hasMore ? page.cursor : ""
  } while (cursor && all.length < 2000)
  return all
}

/** The environments besides the main one; none for a server that has only that, or does not say. */
export async function environments() {
  try {
    // The main environment is asked, whichever is looked at.
    const { data } = await json(await ask("GET", "v2/envs", { query: { limit: 100 }, main: true }))
    return data.filter((each) => each.type === "BRANCH" && !each.isArchived).map((each) => each.name)
  } catch {
    return []
  }
}

/** All functions of all apps. */
export async function allFunctions(signal) {
  const apps = await every("v2/apps", {}, signal)
  const each = apps.map((app) => every(`v2/apps/${encodeURIComponent(app.id)}/functions`, {}, signal))
  return (await Promise.all(each)).flat()
}
