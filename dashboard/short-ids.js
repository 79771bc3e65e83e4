// Ids as the pages show them: the end of one, looked for among the newest jobs, as `hasty get` does.

import { get, query } from "./api.js";

const LOOKED_AT = 1000;
const PAGE = 100;
const WHOLE = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const PART = /^…?([0-9a-f-]{6,35})$/;

/** A whole id, or null. */
export const wholeId = (text) => (WHOLE.test(text.toLowerCase()) ? text.toLowerCase() : null);

/** The digits of what may be the end or the beginning of an id, or null. */
export const partOfId = (text) => text.toLowerCase().match(PART)?.[1] ?? null;

/** The newest jobs, page by page: those whose ids have this part, how many were looked at, and the oldest of them. */
export async function* lookFor(part) {
  const jobs = [];
  let looked = 0;
  let after = null;
  do {
    const page = await get(query("/v1/jobs", { limit: PAGE, after }));
    jobs.push(...page.data.filter(({ id }) => id.endsWith(part) || id.startsWith(part)));
    looked += page.data.length;
    after = page.next;
    yield { part, jobs, looked, oldest: page.data.at(-1) ?? null, isAll: after === null, isDone: after === null || looked >= LOOKED_AT };
  } while (after !== null && looked < LOOKED_AT);
}
