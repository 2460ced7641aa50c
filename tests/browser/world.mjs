// A browser for the client to live in: its clock, network and page are the test's.
import { after } from "node:test";
import { pathToFileURL } from "node:url";

const jobs = new Map();
let number = 0;
let now = 1_000_000;
let random = 0.5;
const realImmediate = setImmediate;
const awake = setInterval(() => {}, 1000);
after(() => clearInterval(awake));

globalThis.setTimeout = (act, ms = 0) => (jobs.set(++number, { act, due: now + Math.max(ms, 0) }), number);
globalThis.clearTimeout = job => jobs.delete(job);
Date.now = () => now;
Math.random = () => random;

/** Let everything run that waits for nothing but promises. */
export async function settle() {
  for (let turn = 0; turn < 20; turn++) await new Promise(done => realImmediate(done));
}

/** Let time pass, and run what is due in it. */
export async function pass(ms) {
  await settle();
  const end = now + ms;
  for (;;) {
    const [next] = [...jobs].filter(([, job]) => job.due <= end).sort(([, a], [, b]) => a.due - b.due);
    if (!next) break;
    jobs.delete(next[0]);
    now = Math.max(now, next[1].due);
    next[1].act();
    await settle();
  }
  now = end;
}

/** Time passes without a timer, as in a page that sleeps. */
export const sleepOver = ms => { now += ms; };

export const sockets = [];
globalThis.WebSocket = class {
  readyState = 0;
  bufferedAmount = 0;
  sent = [];
  constructor(url, protocol) {
    this.url = new URL(url);
    this.offered = protocol;
    sockets.push(this);
  }
  accept(protocol = "gateway.v1", keepAlive = 20) {
    this.readyState = 1;
    this.protocol = protocol;
    this.onopen();
    if (protocol) this.says({ keep_alive: keepAlive });
  }
  says(message) { this.onmessage({ data: typeof message === "object" && !(message instanceof ArrayBuffer) ? JSON.stringify(message) : message }); }
  send(data) { this.sent.push(data); }
  breaks(code = 1006, reason = "") { this.readyState = 3; this.onclose({ code, reason }); }
  close() { this.readyState = 2; this.closed = true; }
};

/** Requests that wait for the test's answer. */
export const requests = [];
globalThis.fetch = (url, options) => new Promise((resolve, reject) => {
  const request = { ...options, url: new URL(url), method: options.method ?? "GET", fail: () => reject(new TypeError("no network")) };
  request.answer = (status, body = null, headers = {}) => resolve(new Response(body, { status, headers }));
  request.stream = () => {
    let controller;
    const body = new ReadableStream({ start: given => { controller = given; } });
    request.push = text => controller.enqueue(new TextEncoder().encode(text));
    request.finish = () => controller.close();
    request.cut = () => controller.error(new TypeError("cut"));
    options.signal?.addEventListener("abort", () => { try { controller.error(new Error("aborted")); } catch {} });
    resolve(new Response(body, { headers: { "content-type": "text/event-stream" } }));
  };
  if (options.signal?.aborted) reject(new Error("aborted"));
  options.signal?.addEventListener("abort", () => { request.aborted = true; reject(new Error("aborted")); });
  requests.push(request);
});

const windows = new EventTarget();
globalThis.addEventListener = (...words) => windows.addEventListener(...words);
globalThis.document = Object.assign(new EventTarget(), { visibilityState: "visible", baseURI: "https://site.test/page/" });
Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true });

export const page = {
  window: type => windows.dispatchEvent(new Event(type)),
  document: type => document.dispatchEvent(new Event(type)),
  show: state => { document.visibilityState = state; page.document("visibilitychange"); },
  online: state => { navigator.onLine = state; page.window(state ? "online" : "offline"); },
};

export const { connect, eventStream } = await import(
  pathToFileURL(process.env.GATEWAY_CLIENT ?? new URL("../../django_gateway/static/gateway/client.js", import.meta.url).pathname)
);

let present;

/** A client, the only one, and all that it says: [type, what]. */
export async function client(url = "/chat/", options = {}) {
  present?.close();
  jobs.clear();
  sockets.length = requests.length = 0;
  random = 0.5;
  document.visibilityState = "visible";
  navigator.onLine = true;
  const gateway = (present = connect(url, options));
  const heard = [];
  gateway.onmessage = ({ data, id }) => heard.push(["message", data, id]);
  gateway.onopen = ({ transport, resumed }) => heard.push(["open", transport, resumed]);
  gateway.onclose = ({ code, reason }) => heard.push(["close", code, reason]);
  gateway.onmissed = () => heard.push(["missed"]);
  await settle();
  return { gateway, heard };
}

export const draw = value => { random = value; };
export const last = list => list[list.length - 1];
