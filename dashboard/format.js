// Numbers, times and JSON as text.

import { live } from "./live.js";

const WHOLE = new Intl.NumberFormat("en");
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export const count = (number) => WHOLE.format(number);
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** Seconds, in the unit that fits: 41 ms, 3.2 s, 12 s, 4 min, 2 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${Number.isInteger(seconds) ? seconds : seconds.toFixed(1)} s`;
  if (seconds < 119.5) return `${Math.round(seconds)} s`;
  if (seconds < 119.5 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 47.5 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** How long ago, or in how long, by the server's clock. */
export function ago(text) {
  const now = live.now();
  if (!text || now === null) return "";
  const seconds = (now - Date.parse(text)) / 1000;
  if (seconds < -1) return `in ${duration(-seconds)}`;
  if (seconds < 10) return seconds < 1 ? "just now" : `${Math.floor(seconds)} s ago`;
  return `${duration(seconds)} ago`;
}

/** A time of day in the browser's zone; with the day where it is another one. */
export function clock(text) {
  if (!text) return "–";
  const at = new Date(text);
  const now = live.now();
  const sameDay = now !== null && DAY.format(at) === DAY.format(new Date(now));
  return sameDay ? CLOCK.format(at) : `${DAY.format(at)} ${CLOCK.format(at)}`;
}

export const seconds = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;
/** The last part of an id is what differs: ids begin with the time. */
export const shortId = (id) => `…${id.slice(-12)}`;
export const json = (value) => JSON.stringify(value, null, 2);
export const oneLine = (value) => JSON.stringify(value);
/** A text as a word of a shell's command. */
export const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** An example of what a JSON Schema asks for. */
export function example(schema, root = schema, depth = 0) {
  if (!schema || depth > 6) return null;
  if (schema.$ref) return example(schema.$ref.split("/").slice(1).reduce((part, name) => part?.[name], root), root, depth + 1);
  if ("default" in schema) return schema.default;
  if ("const" in schema) return schema.const;
  if (schema.examples?.length) return schema.examples[0];
  if (schema.enum) return schema.enum[0];
  const variant = (schema.anyOf ?? schema.oneOf ?? schema.allOf)?.[0];
  if (variant) return example(variant, root, depth + 1);
  switch (Array.isArray(schema.type) ? schema.type[0] : schema.type) {
    case "string":
      return schema.format === "date-time" ? "2030-01-01T00:00:00Z" : "x";
    case "integer":
    case "number":
      return schema.minimum ?? (schema.exclusiveMinimum !== undefined ? schema.exclusiveMinimum + 1 : 1);
    case "boolean":
      return false;
    case "array":
      return schema.minItems ? [example(schema.items, root, depth + 1)] : [];
    case "null":
      return null;
    default: {
      const names = schema.required ?? [];
      return Object.fromEntries(names.map((name) => [name, example(schema.properties?.[name], root, depth + 1)]));
    }
  }
}

/** The command that posts a job of a kind. */
export function submitCommand(kind) {
  const body = oneLine({ kind: kind.name, input: example(kind.input_schema) });
  return `curl -d ${shell(body)} ${shell(`${location.origin}/v1/jobs?wait=10`)}`;
}

export const jobCommand = (id) => `curl ${shell(`${location.origin}/v1/jobs/${id}`)}`;
