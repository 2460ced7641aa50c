// What the client decides, with a clock and a network that are the test's.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, draw, last, page, pass, requests, settle, sleepOver, sockets } from "./world.mjs";

const WS = { transports: ["websocket"] };
const SSE = { transports: ["sse"] };
const POLL = { transports: ["longpoll"] };
const open = (location = "/chat/?gateway_connection=x") => `event: open\ndata: ${JSON.stringify({ location, keep_alive: 15 })}\n\n`;

async function overSse(options = SSE) {
  const made = await client("/chat/", options);
  const stream = last(requests);
  stream.stream();
  stream.push(open());
  await settle();
  return { ...made, stream };
}

async function overPoll(options = POLL) {
  const made = await client("/chat/", options);
  requests[0].answer(201, JSON.stringify({ location: "/chat/?gateway_connection=p", wait: 25, expires: 60 }));
  await settle();
  return made;
}

const polled = (messages, etag = "1") => [200, JSON.stringify(messages), { etag: `"${etag}"` }];

test("a WebSocket is asked for by its name, with the place to go on", async () => {
  const { gateway, heard } = await client("/chat/?room=1#top", { lastEventId: "a-1" });
  assert.equal(sockets[0].url.href, "wss://site.test/chat/?room=1&last_event_id=a-1");
  assert.equal(sockets[0].offered, "gateway.v1");
  sockets[0].accept();
  assert.deepEqual(heard, [["open", "websocket", false]]);
  assert.equal(gateway.transport, "websocket");
  assert.equal(gateway.status, "open");
});

test("messages, bytes, ids; a heartbeat is none", async () => {
  const { gateway, heard } = await client();
  sockets[0].accept();
  const bytes = new Uint8Array([1, 2]).buffer;
  sockets[0].says({ text: "one", id: "a-1" });
  sockets[0].says({});
  sockets[0].says(bytes);
  sockets[0].says({ bytes: "AQI=", id: "a-2" });
  sockets[0].says({ id: "a-5" });
  sockets[0].says({ text: "" });
  assert.deepEqual(heard.slice(1), [
    ["message", "one", "a-1"], ["message", bytes, undefined], ["message", bytes, "a-2"], ["message", "", undefined],
  ]);
  assert.equal(gateway.position, "a-5");
});

test("a server that does not speak gateway.v1 sends its texts as they are", async () => {
  const { heard } = await client();
  sockets[0].accept("");
  sockets[0].says('{"keep_alive": 1}');
  assert.deepEqual(heard, [["open", "websocket", false], ["message", '{"keep_alive": 1}', undefined]]);
  await pass(100_000);
  assert.equal(sockets.length, 1);
});

test("it comes back where it was, later each time", async () => {
  const { gateway, heard } = await client("/chat/", WS);
  sockets[0].accept();
  sockets[0].says({ text: "one", id: "a-1" });
  sockets[0].breaks();
  assert.equal(gateway.status, "waiting");
  for (const most of [1000, 2000, 4000, 8000, 16000, 30000, 30000]) {
    const before = sockets.length;
    await pass(most / 2 - 1);
    assert.equal(sockets.length, before);
    await pass(1);
    assert.equal(sockets.length, before + 1);
    last(sockets).breaks();
  }
  await pass(15_000);
  assert.equal(last(sockets).url.searchParams.get("last_event_id"), "a-1");
  last(sockets).accept();
  assert.deepEqual(last(heard), ["open", "websocket", true]);
  await pass(9_000);
  last(sockets).says({});
  await pass(1_000);
  last(sockets).breaks(); // it has lived: the next attempt is soon
  const before = sockets.length;
  await pass(500);
  assert.equal(sockets.length, before + 1);
});

test("the jitter is full: from at once to twice the mean", async () => {
  await client("/chat/", WS);
  draw(0);
  sockets[0].breaks();
  await pass(0);
  assert.equal(sockets.length, 2);
  draw(0.999);
  sockets[1].breaks();
  await pass(1990);
  assert.equal(sockets.length, 2);
  await pass(10);
  assert.equal(sockets.length, 3);
});

test("the gateway's own moment is kept to the millisecond", async () => {
  await client("/chat/", WS);
  sockets[0].accept();
  sockets[0].breaks(1012, "the gateway is shutting down; retry-after=3.2");
  await pass(3199);
  assert.equal(sockets.length, 1);
  await pass(1);
  assert.equal(sockets.length, 2);
});

for (const code of [1000, 1008, 4401])
  test(`the application's ${code} is the end`, async () => {
    const { gateway, heard } = await client();
    sockets[0].accept();
    sockets[0].breaks(code, "enough");
    assert.deepEqual(last(heard), ["close", code, "enough"]);
    assert.equal(gateway.status, "closed");
    await pass(1_000_000);
    assert.equal(sockets.length + requests.length, 1);
  });

for (const code of [1001, 1005, 1006, 1011, 1012, 1013])
  test(`${code} is not the end`, async () => {
    const { heard } = await client("/chat/", WS);
    sockets[0].accept();
    sockets[0].breaks(code, "");
    await pass(1000);
    assert.equal(sockets.length, 2);
    assert.equal(heard.length, 1);
  });

test("silence is death, after 2.5 keep-alives and a second for what was not read yet", async () => {
  await client("/chat/", WS);
  sockets[0].accept();
  await pass(40_000);
  sockets[0].says({});
  await pass(50_999);
  assert.ok(!sockets[0].closed);
  await pass(1);
  assert.ok(sockets[0].closed);
  await pass(1000);
  assert.equal(sockets.length, 2);
});

test("a page that slept reads first, and judges then", async () => {
  await client("/chat/", WS);
  sockets[0].accept();
  page.show("hidden");
  sleepOver(600_000);
  page.show("visible");
  await pass(500);
  sockets[0].says({ text: "was waiting" });
  await pass(1000);
  assert.ok(!sockets[0].closed);
  sleepOver(600_000);
  page.show("visible");
  await pass(1000);
  assert.ok(sockets[0].closed);
});

test("an upgrade behind which nothing is heard is none", async () => {
  const { gateway } = await client();
  sockets[0].readyState = 1;
  sockets[0].protocol = "gateway.v1";
  sockets[0].onopen();
  await pass(7999);
  assert.equal(requests.length, 0);
  await pass(1);
  assert.equal(requests[0].url.searchParams.get("gateway_connection"), "new");
  assert.equal(gateway.status, "connecting");
});

test("where one cannot be opened the next is tried, in one round", async () => {
  const { gateway, heard } = await client("/chat/", { lastEventId: "a-1" });
  sockets[0].breaks();
  await settle();
  assert.equal(requests[0].url.href, "https://site.test/chat/?last_event_id=a-1&gateway_connection=new");
  assert.equal(requests[0].headers.Accept, "text/event-stream");
  requests[0].answer(404, "no");
  await settle();
  assert.equal(requests[1].method, "POST");
  assert.equal(requests[1].url.href, "https://site.test/chat/?last_event_id=a-1");
  assert.equal(requests[1].headers.Prefer, "respond-async");
  requests[1].answer(201, JSON.stringify({ location: "/chat/?gateway_connection=p", wait: 25, expires: 60 }));
  await settle();
  assert.deepEqual(heard, [["open", "longpoll", false]]);
  assert.equal(gateway.transport, "longpoll");
});

test("a proxy that buffers an event stream is passed over", async () => {
  await client("/chat/", { transports: ["sse", "longpoll"] });
  await pass(8000);
  assert.ok(requests[0].aborted);
  assert.equal(requests[1].method, "POST");
});

test("a page of HTML is no event stream", async () => {
  await client("/chat/", { transports: ["sse", "longpoll"] });
  requests[0].answer(200, "<p>", { "content-type": "text/html" });
  await settle();
  assert.equal(requests.length, 2);
});

test("what works is remembered, what is better is tried again while it goes on", async () => {
  const made = await client("/chat/", { transports: ["websocket", "sse"] });
  sockets[0].breaks();
  await settle();
  const stream = requests[0];
  stream.stream();
  stream.push(open());
  await settle();
  stream.push("id: a-1\ndata: one\n\n");
  await pass(14_999);
  assert.equal(sockets.length, 1);
  stream.push(":\n");
  await pass(1);
  assert.equal(sockets.length, 2); // the probe
  sockets[1].breaks();
  for (let i = 0; i < 2; i++) {
    await pass(14_999);
    stream.push(":\n");
  }
  assert.equal(sockets.length, 2);
  await pass(2);
  assert.equal(sockets.length, 3); // twice as late
  stream.push("id: a-2\ndata: two\n\n");
  await settle();
  sockets[2].accept();
  sockets[2].says({ text: "two", id: "a-2" }); // the replay overlaps
  sockets[2].says({ text: "three", id: "a-3" });
  await settle();
  assert.ok(stream.aborted);
  assert.equal(made.gateway.transport, "websocket");
  assert.deepEqual(made.heard, [
    ["open", "sse", false], ["message", "one", "a-1"], ["message", "two", "a-2"],
    ["open", "websocket", true], ["message", "three", "a-3"],
  ]);
});

test("when nothing worked the next round begins with the best", async () => {
  await client("/chat/", { transports: ["websocket", "sse"] });
  sockets[0].breaks();
  await settle();
  requests[0].fail();
  await pass(1000);
  assert.equal(sockets.length, 2);
});

test("what opens and dies at once, three times, is passed over", async () => {
  await client("/chat/", { transports: ["websocket", "sse"] });
  for (let i = 0; i < 3; i++) {
    sockets[i].accept();
    await pass(1000);
    sockets[i].breaks();
    await pass(4000);
  }
  assert.equal(sockets.length, 3);
  assert.equal(requests.length, 1);
});

test("the application's refusal is the end", async () => {
  const { gateway, heard } = await client();
  sockets[0].breaks();
  await settle();
  requests[0].answer(403, "members only", { "content-type": "text/plain" });
  await pass(1_000_000);
  assert.deepEqual(heard, [["close", 403, "members only"]]);
  assert.equal(requests.length, 1);
  await assert.rejects(gateway.send("x"), /not sent, the connection is closed: members only/);
});

test("404 from all that could say so is the end at the third time", async () => {
  const { heard } = await client();
  for (let round = 0; round < 3; round++) {
    sockets[round].breaks();
    for (let i = 0; i < 2; i++) {
      await settle();
      last(requests).answer(404, "");
    }
    await pass(2000);
  }
  assert.deepEqual(heard, [["close", 404, ""]]);
  assert.equal(sockets.length, 3);
});

test("no network is no refusal", async () => {
  const { gateway } = await client();
  for (let round = 0; round < 5; round++) {
    last(sockets).breaks();
    await settle();
    last(requests).answer(404, "");
    await settle();
    last(requests).fail();
    await pass(30_000);
  }
  assert.equal(gateway.status, "connecting");
});

test("503 ends the round, and says when", async () => {
  await client("/chat/", { transports: ["sse", "longpoll"] });
  requests[0].answer(503, "", { "retry-after": "7" });
  await pass(6999);
  assert.equal(requests.length, 1);
  await pass(1);
  assert.equal(requests.length, 2);
  assert.equal(requests[1].method, "GET");
});

test("an event stream: texts, bytes, names, a position, what was missed", async () => {
  const { gateway, heard, stream } = await overSse();
  stream.push("id: a-1\r\ndata: on");
  stream.push("e\r\n\r\nevent: bytes\ndata: AQI=\nid: a-2\n\nid: a-7\n\nevent: missed\ndata: {}\n\nevent: named\ndata: x\n\n");
  await settle();
  assert.deepEqual(heard.slice(1), [
    ["message", "one", "a-1"], ["message", new Uint8Array([1, 2]).buffer, "a-2"], ["missed"], ["message", "x", undefined],
  ]);
  assert.equal(gateway.position, "a-7");
});

test("an event stream that is cut within an event has not said it", async () => {
  const { gateway, heard, stream } = await overSse();
  stream.push("id: a-1\ndata: one\n\nid: a-2\ndata: tw");
  await settle();
  stream.cut();
  await pass(1000);
  assert.equal(last(requests).url.searchParams.get("last_event_id"), "a-1");
  assert.equal(heard.length, 2);
  assert.equal(gateway.status, "connecting");
});

test("an event stream's own moment to come back", async () => {
  const { stream } = await overSse();
  stream.push("retry: 4321\n\n");
  await settle();
  stream.finish();
  await pass(4320);
  assert.equal(requests.length, 1);
  await pass(1);
  assert.equal(requests.length, 2);
});

test("an event stream is closed by the application", async () => {
  const { heard, stream } = await overSse();
  stream.push('event: close\ndata: {"code": 4000, "reason": "over"}\n\n');
  await settle();
  assert.deepEqual(last(heard), ["close", 4000, "over"]);
  assert.ok(stream.aborted);
});

test("messages are posted one by one, and the promise is the application's word", async () => {
  const { gateway } = await overSse();
  const [first, second] = [gateway.send("one"), gateway.send({ two: 2 })];
  await settle();
  assert.equal(requests.length, 2);
  assert.equal(requests[1].url.href, "https://site.test/chat/?gateway_connection=x");
  assert.equal(requests[1].body, "one");
  requests[1].answer(204);
  await first;
  await settle();
  assert.equal(requests[2].body, '{"two":2}');
  requests[2].answer(403, "no");
  await assert.rejects(second, { status: 403, message: "refused with 403: no" });
});

test("a busy application gets it later", async () => {
  const { gateway } = await overSse();
  const sent = gateway.send("one");
  await settle();
  requests[1].answer(503, "", { "retry-after": "2" });
  await pass(2000);
  assert.equal(requests.length, 3);
  requests[2].answer(204);
  await sent;
});

for (const [over, begin] of [["long-polling", overPoll], ["an event stream", overSse]])
  test(`an answer that was lost is asked for again, with the same key, over ${over}`, async () => {
    const { gateway } = await begin();
    const sent = [gateway.send("one"), gateway.send("two")];
    await settle();
    const first = last(requests);
    assert.match(first.headers["Idempotency-Key"], /^\d+$/);
    first.fail();
    await pass(1000);
    const again = last(requests);
    assert.notEqual(again, first);
    assert.deepEqual([again.body, again.headers], [first.body, first.headers]);
    again.answer(204);
    await settle();
    assert.equal(last(requests).body, "two");
    assert.notEqual(last(requests).headers["Idempotency-Key"], first.headers["Idempotency-Key"]);
    last(requests).answer(204);
    await Promise.all(sent);
  });

test("what met an ended connection goes over the next one, once", async () => {
  const { gateway } = await overSse();
  const sent = gateway.send("one");
  for (let turn = 0; turn < 2; turn++) {
    await settle();
    last(requests).answer(404, "no such connection");
    if (turn) break;
    await pass(1000);
    last(requests).stream();
    last(requests).push(open("/chat/?gateway_connection=y"));
  }
  await assert.rejects(sent, { status: 404 });
});

test("when nobody knows whether it arrived, the promise says so", async () => {
  const { gateway } = await overSse();
  const sent = gateway.send("one");
  await settle();
  const refused = assert.rejects(sent, { unsure: true });
  requests[1].fail();
  await settle();
  requests[0].finish();
  await pass(1000);
  await refused;
  last(requests).stream();
  last(requests).push(open("/chat/?gateway_connection=y"));
  await pass(10_000);
  assert.ok(!requests.some(request => request.body && request.url.search.includes("=y")));
});

for (const status of [502, 504])
  test(`a ${status} says nothing of what became of it: it is repeated, never sent anew`, async () => {
    const { gateway } = await overSse();
    const sent = gateway.send("one");
    const refused = assert.rejects(sent, { unsure: true });
    await settle();
    requests[1].answer(status, "");
    await settle();
    await pass(1000);
    assert.equal(requests.length, 3);
    assert.equal(requests[2].headers["Idempotency-Key"], requests[1].headers["Idempotency-Key"]);
    requests[2].answer(404, "");
    await refused;
    await pass(1000);
    assert.equal(requests.length, 3);
  });

test("a poll that a proxy gave up is asked again", async () => {
  const { gateway } = await overPoll();
  requests[1].answer(504, "");
  await settle();
  await pass(1000);
  assert.equal(requests.length, 3);
  requests[2].answer(...polled([{ text: "hi" }]));
  await settle();
  assert.equal(gateway.status, "open");
});

test("nor does anybody when the location of a long poll is gone by then", async () => {
  const { gateway } = await overPoll();
  const sent = gateway.send("one");
  await settle();
  requests[2].fail();
  await settle();
  requests[1].answer(404);
  const refused = assert.rejects(sent, { unsure: true });
  await pass(1000);
  await refused;
});

test("what waits for a connection is bounded, in order, and rejected at the end", async () => {
  const { gateway } = await client("/chat/", { queue: 2 });
  const sent = [gateway.send("one"), gateway.send(new Uint8Array([1]))];
  await assert.rejects(gateway.send("three"), /too much waits/);
  sockets[0].accept();
  await Promise.all(sent);
  assert.equal(sockets[0].sent[0], "one");
  assert.deepEqual(new Uint8Array(await sockets[0].sent[1].arrayBuffer()), new Uint8Array([1]));
  sockets[0].breaks();
  const late = gateway.send("four");
  gateway.close();
  await assert.rejects(late, /closed by the page/);
});

test("what waits is bounded in bytes, too, but for the first", async () => {
  const { gateway } = await client("/chat/", { queueBytes: 10 });
  const sent = [gateway.send("é".repeat(50))];
  await assert.rejects(gateway.send("x"), /too much waits/);
  sockets[0].accept();
  await sent[0];
  sockets[0].breaks();
  sent.push(gateway.send("éé"), gateway.send(new Uint8Array(6)));
  await assert.rejects(gateway.send("x"), /too much waits/);
  await pass(1000);
  sockets[1].accept();
  await Promise.all(sent);
  assert.equal(sockets[1].sent.length, 2);
});

test("what is being posted goes before what a better transport is given", async () => {
  const { gateway } = await client("/chat/", { transports: ["websocket", "sse"], minDelay: 1 });
  sockets[0].breaks();
  await settle();
  requests[0].stream();
  requests[0].push(open());
  await pass(14_000);
  requests[0].push(":\n");
  await pass(1_000);
  const sent = [gateway.send("one"), gateway.send("two")];
  sockets[1].accept();
  await pass(1_000);
  assert.equal(gateway.transport, "websocket");
  assert.deepEqual([requests[1].body, sockets[1].sent], ["one", []]);
  requests[1].answer(204);
  await Promise.all(sent);
  assert.deepEqual(sockets[1].sent, ["two"]);
});

test("a post that nobody answers holds up nothing for long", async () => {
  const { gateway } = await client("/chat/", { transports: ["websocket", "sse"] });
  sockets[0].breaks();
  await settle();
  requests[0].stream();
  requests[0].push(open());
  await pass(14_000);
  requests[0].push(":\n");
  await pass(1_000);
  const [one, two] = [gateway.send("one"), gateway.send("two")];
  const refused = assert.rejects(one, { unsure: true });
  await settle();
  sockets[1].accept();
  await pass(10_000);
  await refused;
  await two;
  assert.deepEqual(sockets[1].sent, ["two"]);
});

test("a WebSocket is given no more than it takes", async () => {
  const { gateway } = await client();
  sockets[0].accept();
  sockets[0].bufferedAmount = 2_000_000;
  const sent = gateway.send("one");
  await pass(100);
  assert.equal(sockets[0].sent.length, 0);
  sockets[0].bufferedAmount = 0;
  await pass(50);
  await sent;
});

test("sent, sent, closed: both are sent", async () => {
  const { gateway } = await client();
  sockets[0].accept();
  gateway.send("one");
  gateway.send("two");
  gateway.close();
  assert.deepEqual(sockets[0].sent, ["one", "two"]);
  assert.ok(sockets[0].closed);
});

test("what cannot be sent is refused at once", async () => {
  const { gateway } = await client();
  await assert.rejects(gateway.send(undefined), TypeError);
  const round = {};
  round.round = round;
  await assert.rejects(gateway.send(round), TypeError);
});

test("a stream may have any name, and a text that names none is a text", async () => {
  const { gateway, heard } = await client();
  sockets[0].accept();
  const got = [];
  gateway.stream("toString").onmessage = event => got.push(event.data);
  const odd = ["constructor", "__proto__", "hasOwnProperty", 7, null];
  for (const stream of odd) sockets[0].says({ text: JSON.stringify({ stream, payload: 1 }) });
  sockets[0].says({ text: JSON.stringify({ stream: "toString", payload: 2 }) });
  assert.deepEqual(got, [2]);
  assert.deepEqual(heard.slice(1).map(([type]) => type), odd.map(() => "message"));
});

test("streams share the connection", async () => {
  const { gateway, heard } = await client();
  const got = [];
  gateway.stream("prices").onmessage = event => got.push(event.data);
  sockets[0].accept();
  sockets[0].says({ text: '{"stream": "prices", "payload": {"gold": 1}}', id: "a-1" });
  sockets[0].says({ text: '{"stream": "other", "payload": 1}' });
  sockets[0].says({ text: "{" });
  gateway.stream("prices").send({ buy: 2 });
  assert.deepEqual(got, [{ gold: 1 }]);
  assert.deepEqual(heard.slice(1).map(([, data]) => data), ['{"stream": "other", "payload": 1}', "{"]);
  assert.equal(sockets[0].sent[0], '{"stream":"prices","payload":{"buy":2}}');
});

test("a poll says what it has, and a lost answer is heard again", async () => {
  const { heard } = await overPoll();
  assert.equal(requests[1].headers.Prefer, "wait=25");
  assert.equal(requests[1].headers["If-None-Match"], undefined);
  requests[1].answer(...polled([{ text: "one", id: "a-1" }, { bytes: "AQI=" }]));
  await settle();
  assert.equal(requests[2].headers["If-None-Match"], '"1"');
  requests[2].fail();
  await pass(1000);
  assert.equal(requests[3].headers["If-None-Match"], '"1"');
  requests[3].answer(204);
  await settle();
  requests[4].answer(...polled([{ missed: true }, { close: 4001, reason: "go" }, { text: "after" }], "2"));
  await pass(1000);
  assert.deepEqual(heard.slice(1), [
    ["message", "one", "a-1"], ["message", new Uint8Array([1, 2]).buffer, undefined], ["missed"], ["close", 4001, "go"],
  ]);
});

test("a poll that is not answered is asked again", async () => {
  await overPoll();
  await pass(36_000);
  assert.ok(requests[1].aborted);
  await pass(1000);
  assert.equal(requests[2].method, "GET");
});

test("a location that is gone is opened anew, where the last one was", async () => {
  await overPoll();
  requests[1].answer(...polled([{ text: "one", id: "a-1" }]));
  await settle();
  requests[2].answer(404, "");
  await settle();
  assert.equal(requests[3].method, "DELETE");
  await pass(1000);
  assert.equal(requests[4].method, "POST");
  assert.equal(requests[4].url.searchParams.get("last_event_id"), "a-1");
});

test("closing says so to the server", async () => {
  const { gateway, heard } = await overPoll();
  gateway.close();
  await settle();
  assert.equal(last(requests).method, "DELETE");
  assert.ok(last(requests).keepalive);
  assert.deepEqual(last(heard), ["close", 1000, "closed by the page"]);
});

test("nothing is tried while the machine is offline, and at once when it is back", async () => {
  const { gateway } = await client("/chat/", WS);
  sockets[0].accept();
  page.online(false);
  sockets[0].breaks();
  await pass(1_000_000);
  assert.equal(gateway.status, "offline");
  assert.equal(sockets.length, 1);
  page.online(true);
  await settle();
  assert.equal(sockets.length, 2);
  sockets[1].accept();
  page.online(true); // another network: a new connection
  await pass(0);
  assert.equal(sockets.length, 3);
});

test("this machine needs no network", async () => {
  for (const url of ["http://localhost:8000/", "http://127.0.0.1/", "http://[::1]/"]) {
    const { gateway } = await client(url, WS);
    sockets[0].breaks();
    page.online(false);
    await pass(1000);
    assert.equal(sockets.length, 2, url);
    gateway.close();
  }
});

test("a hidden page tries seldom; one that is looked at, at once", async () => {
  await client("/chat/", WS);
  page.show("hidden");
  sockets[0].breaks();
  await pass(500);
  sockets[1].breaks();
  await pass(14_999);
  assert.equal(sockets.length, 2);
  page.show("visible");
  await settle();
  assert.equal(sockets.length, 3);
});

for (const [leaves, returns, where] of [["pagehide", "pageshow", "window"], ["freeze", "resume", "document"]])
  test(`${leaves} closes, ${returns} goes on where it was`, async () => {
    const { gateway, heard } = await client("/chat/", WS);
    sockets[0].accept();
    sockets[0].says({ text: "one", id: "a-1" });
    page[where](leaves);
    assert.ok(sockets[0].closed);
    assert.equal(gateway.status, "suspended");
    await pass(1_000_000);
    assert.equal(sockets.length, 1);
    page[where](returns);
    await settle();
    assert.equal(sockets[1].url.searchParams.get("last_event_id"), "a-1");
    assert.equal(heard.filter(([type]) => type === "close").length, 0);
  });

test("a listener that throws harms nobody but itself", async () => {
  const { gateway, heard } = await client();
  const thrown = [];
  const others = process.listeners("uncaughtException"); // the runner's
  process.removeAllListeners("uncaughtException").once("uncaughtException", error => thrown.push(error.message));
  gateway.addEventListener("message", () => { throw new Error("a listener's"); });
  sockets[0].accept();
  sockets[0].says({ text: "one", id: "a-1" });
  await settle();
  others.forEach(other => process.on("uncaughtException", other));
  assert.deepEqual(heard.slice(1), [["message", "one", "a-1"]]);
  assert.deepEqual(thrown, ["a listener's"]);
});

test("addresses: one for each transport, or made anew each time", async () => {
  const asked = [];
  await client("/", {
    transports: { sse: "wss://other.test/events/", longpoll: async name => (asked.push(name), "/poll/?token=t") },
    withCredentials: true,
  });
  assert.equal(requests[0].url.origin, "https://other.test");
  assert.equal(requests[0].credentials, "include");
  requests[0].answer(405);
  await settle();
  assert.equal(requests[1].url.href, "https://site.test/poll/?token=t&last_event_id=");
  assert.deepEqual(asked, ["longpoll"]);
});

test("wrong options are refused where they stand", async () => {
  await assert.rejects(client("/", { transports: ["pigeon"] }), /pigeon is no transport: websocket, sse, longpoll are/);
  await assert.rejects(client("/", { transports: [] }), /no transports/);
  await assert.rejects(client("http://["), TypeError);
});
