// When each step of a run was queued, attempted, waited and ended, as bars on one scale of time.

import { h } from "./dom.js"

/** Where each step is on the scale, in percent; steps that began together are parallel. */
export function places(run, steps) {
  const begin = Date.parse(run.queuedAt)
  const now = Date.now()
  const end = Math.max(
    begin + 1,
    run.endedAt ? Date.parse(run.endedAt) : now,
    ...steps.map((step) => (step.endedAt ? Date.parse(step.endedAt) : begin)),
  )
  const at = (time) => (100 * (Math.min(Math.max(Date.parse(time), begin), end) - begin)) / (end - begin)
  return steps.map((step, place) => {
    const spans = []
    // Steps that were asked for at once are parallel; one that only begins where another ends is not.
    const beside = [steps[place - 1], steps[place + 1]].some((other) => other && overlap(step, other))
    let from = at(step.queuedAt)
    for (const attempt of step.attempts) {
      const began = at(attempt.startedAt)
      const ended = at(attempt.endedAt)
      if (began > from) spans.push(["pause", from, began])
      spans.push(["tried", began, ended])
      from = ended
    }
    const started = step.attempts.length ? from : at(step.startedAt ?? step.queuedAt)
    if (started > from) spans.push(["queue", from, started])
    if (step.status !== "FAILED" || !step.attempts.length) spans.push([step.status, started, step.endedAt ? at(step.endedAt) : 100])
    return { step, spans, beside }
  })
}

function overlap(one, other) {
  const [first, second] = Date.parse(one.queuedAt) <= Date.parse(other.queuedAt) ? [one, other] : [other, one]
  return !first.endedAt || Date.parse(second.queuedAt) < Date.parse(first.endedAt)
}

/** The bars of a step. Colors repeat what the status beside them says, so they are hidden from screen readers. */
export function bars(step, { spans }) {
  const track = h("div.track", { "aria-hidden": "true" })
  for (const [kind, from, until] of spans) {
    const bar = h(`span.${kind}`)
    bar.style.left = `min(${from.toFixed(3)}%, calc(100% - 2px))`
    bar.style.width = `${Math.max(0, until - from).toFixed(3)}%`
    track.append(bar)
  }
  return track
}
