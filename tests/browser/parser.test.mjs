// The parser of event streams, against the examples of the HTML standard, section 9.2.6.
import assert from "node:assert/strict";
import { test } from "node:test";
import { eventStream } from "./world.mjs";

const parse = pieces => {
  const found = [];
  const push = eventStream(event => found.push(JSON.parse(JSON.stringify(event))));
  pieces.forEach(push);
  return found;
};

const CASES = {
  "two data lines are one text": ["data: YHOO\ndata: +2\ndata: 10\n\n", [{ name: "", data: "YHOO\n+2\n10" }]],
  "comment, id, an id that is reset, one space that is not taken away": [
    ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
    [{ name: "", id: "1", data: "first event" }, { name: "", id: "", data: "second event" }, { name: "", data: " third event" }],
  ],
  "empty data is data, an unfinished event is none": ["data\n\ndata\ndata\n\ndata:", [{ name: "", data: "" }, { name: "", data: "\n" }]],
  "with and without a space": ["data:test\n\ndata: test\n\n", [{ name: "", data: "test" }, { name: "", data: "test" }]],
  "CR, LF and CRLF end a line, U+2028 does not": [
    "event: a\rdata: 1\r\rdata: 2\r\n\r\ndata: 3\u2028\u0085\n\n",
    [{ name: "a", data: "1" }, { name: "", data: "2" }, { name: "", data: "3\u2028\u0085" }],
  ],
  "an id alone": ["id: 5-a\n\n", [{ id: "5-a" }]],
  "an id with NUL is ignored": ["id: a\0b\ndata: x\n\n", [{ name: "", data: "x" }]],
  "retry is digits": ["retry: 250\nretry: 2s\nretry: -1\nretry:\n\n", [{ retry: 250 }]],
  "unknown fields, and names that only begin like one": ["datum: 1\nDATA: 2\n data: 3\n\n", []],
  "a name is for its event alone": ["event: x\n\ndata: y\n\n", [{ name: "", data: "y" }]],
  "colons within": ["data: a: b:c\n\n", [{ name: "", data: "a: b:c" }]],
};

for (const [name, [text, expected]] of Object.entries(CASES))
  test(`${name}, however it is cut`, () => {
    assert.deepEqual(parse([text]), expected);
    assert.deepEqual(parse([...text]), expected);
    for (let at = 0; at <= text.length; at++) assert.deepEqual(parse([text.slice(0, at), "", text.slice(at)]), expected);
  });
