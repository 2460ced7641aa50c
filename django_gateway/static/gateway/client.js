// The browser's side of Gateway: live messages over WebSocket, else Server-Sent Events and POST, else
// long-polling. One module, nothing else needed. client.d.ts says what it offers, README.md how to use it.
//
//   connect(url) is a Gateway; it holds one Link at a time, an attempt at or a connection over one
//   transport. A Link says ready() once, heard() often, end() once; it hands messages to receive().
//   A round tries the transports in order until one opens; between rounds is a back-off.

const DEFAULTS = {
  transports: ["websocket", "sse", "longpoll"],
  lastEventId: "", // where to go on; "" is now
  minDelay: 1000, // ms: the first attempt to come back is within that, each later one within twice as much
  maxDelay: 30000,
  openTimeout: 8000, // ms until the first bytes; who buffers them is passed over
  probe: 15000, // ms until a better transport is tried again, each time twice as many; 0 is never
  queue: 100, // messages that wait for a connection
  queueBytes: 1000000, // of these, but for the first: as many as a gateway takes of one
  withCredentials: false, // cookies for other origins, too
};
const LIVED = 10000; // ms: who dies sooner, three times, is passed over
const LONGEST = 3600000; // ms between attempts, or to a probe, whoever asks for more
const LATE = 10000; // ms that an answer may come after its wait
const GRACE = 1000; // ms: what waits in a page that slept is read before its connection is called dead
const SEEN = 1000; // ids that are remembered
const BUFFER = 1 << 20; // bytes that a WebSocket is given at a time

const page = globalThis.document;
const baseURL = page?.baseURI ?? globalThis.location?.href;
const encoder = new TextEncoder();
const sleep = ms => new Promise(done => setTimeout(done, ms));
const hidden = () => page?.visibilityState === "hidden";
const isLocal = url => /^(localhost$|127\.|\[::1]$)/.test(new URL(typeof url === "function" ? "" : url, baseURL).hostname);
const unbase64 = text => Uint8Array.from(atob(text), char => char.charCodeAt(0)).buffer;
// Codes by which an application ends the connection; the others say that it may be tried again.
const isFinal = code => code === 1000 || code === 1008 || code >= 3000;
const inReason = reason => { // "retry-after=2.5", the moment that the gateway drew for this connection
  const found = /retry-after=([\d.]+)/.exec(reason);
  return found ? found[1] * 1000 : undefined;
};
const inHeader = response => {
  const value = response.headers.get("retry-after");
  if (!value) return undefined;
  return Math.max(0, isNaN(value) ? Date.parse(value) - Date.now() : value * 1000) || 0;
};
const isLost = status => status === 502 || status === 504; // an answer, and no word of what became of it
const problem = (text, more) => Object.assign(new Error(text), more);

/** The parser of an event stream, by the HTML standard: give it text, in any pieces. */
export function eventStream(take) {
  let rest = "", afterCR = false, data = [], id, name = "";
  const line = text => {
    if (!text) {
      if (data.length) take({ name, id, data: data.join("\n") });
      else if (id !== undefined) take({ id });
      data = [];
      id = undefined;
      name = "";
      return;
    }
    const [, field, value = ""] = /^([^:]*)(?:: ?([^]*))?$/.exec(text);
    if (field === "data") data.push(value);
    else if (field === "event") name = value;
    else if (field === "id" && !value.includes("\0")) id = value;
    else if (field === "retry" && /^\d+$/.test(value)) take({ retry: +value });
  };
  return text => {
    if (!text) return;
    if (afterCR && text[0] === "\n") text = text.slice(1);
    afterCR = text ? text.endsWith("\r") : false;
    const lines = (rest + text).split(/\r\n|\r|\n/);
    rest = lines.pop();
    lines.forEach(line);
  };
}

class Link {
  failed = []; // transports that did not open before it, in its round
  rest = []; // those to try after it
  opened = 0; // when
  reading = new AbortController();
  sending = new AbortController();

  constructor(owner, name, more) {
    Object.assign(this, { owner, name, number: ++owner._links, ...more });
    this.timer = setTimeout(() => this.end({ reason: "nothing came in time" }), owner.options.openTimeout);
    this.run().catch(error => this.end({ reason: `${error}`, delay: this.retry }));
  }

  async run() {
    const { owner, name } = this;
    const given = owner._urls[name];
    this.url = new URL(typeof given === "function" ? await given(name) : given, baseURL);
    this.url.protocol = this.url.protocol.replace(/^ws/, "http");
    this.url.hash = "";
    this.url.searchParams.set("last_event_id", owner.position);
    if (!this.over) await this.start();
  }

  ready(silence) {
    this.opened = Date.now();
    this.expect(silence);
    this.owner._ready(this);
  }

  heard() {
    this.at = Date.now();
    this.doubted = false;
  }

  expect(silence) { // to hear something within so many ms; 0: no matter when
    this.silence = silence;
    this.heard();
    this.check();
  }

  check() {
    if (this.over || !this.opened) return;
    clearTimeout(this.timer);
    if (!this.silence) return;
    const left = this.at + this.silence - Date.now();
    if (left <= 0 && this.doubted) return this.dead();
    this.doubted = left <= 0;
    this.timer = setTimeout(() => this.check(), this.doubted ? GRACE : left);
  }

  dead() {
    this.end({ reason: "nothing was heard" });
  }

  drop() { // without a word to the owner; what is being sent may still arrive
    if (this.over) return;
    this.over = true;
    clearTimeout(this.timer);
    setTimeout(() => this.sending.abort(), LATE);
    this.shut();
    this.reading.abort();
  }

  end(why) {
    if (this.over) return;
    this.drop();
    this.sending.abort();
    this.owner._ended(this, why);
  }
}

class WebSocketLink extends Link {
  async start() {
    const url = new URL(this.url);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.socket = new WebSocket(url, "gateway.v1"));
    socket.binaryType = "arraybuffer";
    // Of a gateway something is heard at once: an upgrade behind which no frames pass is none.
    socket.onopen = () => this.over || socket.protocol || this.ready(0);
    socket.onmessage = ({ data }) => {
      if (this.over) return;
      this.heard();
      if (typeof data !== "string") return this.owner._receive(this, { bytes: data });
      if (!socket.protocol) return this.owner._receive(this, { text: data });
      const message = JSON.parse(data);
      if (message.keep_alive === undefined) return this.owner._receive(this, message);
      this.ready(message.keep_alive * 2500);
    };
    socket.onclose = ({ code, reason }) => this.end({ code, reason, delay: inReason(reason) });
  }

  pump() {
    const { _queue, _posting } = this.owner;
    clearTimeout(this.later);
    if (_posting) return; // something older, by the connection before this one
    while (_queue.length && this.socket.readyState === 1) {
      if (this.socket.bufferedAmount > BUFFER) return (this.later = setTimeout(() => this.pump(), 50));
      const { data, resolve } = _queue.shift();
      this.socket.send(data);
      resolve();
    }
  }

  shut() {
    this.socket?.close();
  }
}

// What receives by requests, and sends by POST to its location, one message at a time.
class RequestLink extends Link {
  sent = 0;

  request(url, options) {
    const credentials = this.owner.options.withCredentials ? "include" : "same-origin";
    return fetch(url, { cache: "no-store", credentials, signal: this.reading.signal, ...options });
  }

  async refused(response) {
    const plain = response.headers.get("content-type")?.startsWith("text/plain");
    const reason = (plain && (await response.text()).trim()) || response.statusText;
    this.end({ status: response.status, reason, delay: inHeader(response) });
  }

  async pump() {
    const { owner } = this;
    if (owner._posting) return;
    owner._posting = true;
    while (owner._queue.length && !this.over) await this.post(owner._queue.shift(), `${++this.sent}`);
    owner._posting = false;
    if (this.over) this.shut();
    if (owner._link !== this) owner._link?.pump();
  }

  async post(item, key) {
    const { data, resolve, reject, moved } = item;
    const type = typeof data === "string" ? "text/plain;charset=UTF-8" : "application/octet-stream";
    const headers = { "Content-Type": type, "Idempotency-Key": key }; // who repeats it is answered, and it is not run again
    const signal = this.sending.signal;
    let delay = this.owner.options.minDelay;
    for (let unsure = false; ; await sleep(delay)) {
      try {
        const response = await this.request(this.location, { method: "POST", body: data, headers, signal });
        const { ok, status } = response;
        if (ok) return resolve();
        if (isLost(status)) throw status;
        const gone = status === 404 || status === 410; // the connection has ended; or the application says so
        if (gone && !moved && !unsure) {
          this.owner._keep({ ...item, moved: true });
          return this.end({ reason: "the connection has ended" });
        }
        if (status !== 503 && status !== 429) {
          const reason = (await response.text()).trim() || response.statusText;
          return reject(problem(`refused with ${status}: ${reason}`, { status, unsure }));
        }
        delay = inHeader(response) ?? delay;
      } catch {
        unsure = true; // the request was lost, or its answer
      }
      if (!this.over) continue;
      if (unsure) return reject(problem("the connection broke before the answer came", { unsure }));
      return this.owner._keep(item);
    }
  }
}

class SseLink extends RequestLink {
  async start() {
    const url = new URL(this.url);
    url.searchParams.set("gateway_connection", "new");
    const response = await this.request(url, { headers: { Accept: "text/event-stream" } });
    if (!response.ok || !response.headers.get("content-type")?.startsWith("text/event-stream"))
      return this.refused(response);
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    const parse = eventStream(event => this.over || this.take(event));
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return this.end({ reason: "the stream ended", delay: this.retry });
      this.heard();
      parse(decoder.decode(value, { stream: true }));
    }
  }

  take({ name, id, data, retry }) {
    const { owner } = this;
    if (retry !== undefined) this.retry = retry;
    else if (name === "open" && !this.opened) {
      const { location, keep_alive } = JSON.parse(data);
      this.location = new URL(location, this.url);
      this.ready(keep_alive * 2500);
    } else if (name === "missed") owner._receive(this, { missed: true });
    else if (name === "close") {
      const { code, reason } = JSON.parse(data);
      owner._receive(this, { close: code, reason });
    } else if (name === "bytes") owner._receive(this, { id, bytes: data });
    else owner._receive(this, { id, text: data, name });
  }

  shut() {}
}

class LongpollLink extends RequestLink {
  async start() {
    const response = await this.request(this.url, { method: "POST", headers: { Prefer: "respond-async" } });
    if (response.status !== 201) return this.refused(response);
    const { location, wait } = await response.json();
    this.location = new URL(location, this.url);
    const headers = { Prefer: `wait=${wait}` };
    const silence = wait * 1000 + LATE;
    this.ready(silence);
    for (let failures = 0; !this.over; ) {
      let delay = 0;
      this.poll = new AbortController();
      this.expect(silence);
      try {
        const answer = await this.request(this.location, { headers, signal: this.poll.signal });
        if (answer.status === 200) {
          const messages = await answer.json();
          if (this.over) return;
          headers["If-None-Match"] = answer.headers.get("etag");
          for (const message of messages) this.over || this.owner._receive(this, message);
          failures = 0;
        } else if (answer.status === 204) failures = 0;
        else if (answer.status === 503 || answer.status === 429) delay = inHeader(answer) ?? this.later(++failures);
        else if (isLost(answer.status)) throw `answered ${answer.status}`;
        else return this.end({ reason: "the connection has ended" });
      } catch (error) {
        if (++failures > 4) return this.end({ reason: `${error}` }); // some are forgiven: the next poll hears the same
        delay = this.later(failures);
      }
      if (delay && !this.over) await sleep(delay);
    }
  }

  later(failures) {
    return Math.random() * this.owner.options.minDelay * 2 ** (failures - 1);
  }

  dead() {
    this.poll.abort();
  }

  shut() {
    this.poll?.abort();
    if (!this.location || this.owner._posting) return; // again when it is posted
    this.request(this.location, { method: "DELETE", keepalive: true, signal: null }).catch(() => {});
  }
}

const KINDS = { websocket: WebSocketLink, sse: SseLink, longpoll: LongpollLink };

class GatewayEvent extends Event {
  constructor(type, more) {
    super(type);
    Object.assign(this, more);
  }

  json() {
    return JSON.parse(this.data);
  }
}

// Has onNAME beside addEventListener; what a listener throws is reported, and harms nobody.
class Source extends EventTarget {
  constructor(...types) {
    super();
    for (const type of types) {
      this[`on${type}`] = null;
      this.addEventListener(type, event => this[`on${type}`]?.(event));
    }
  }

  _emit(type, more) {
    this.dispatchEvent(new GatewayEvent(type, more));
  }
}

class Stream extends Source {
  constructor(gateway, name) {
    super("message");
    this.name = name;
    this.send = payload => gateway.send({ stream: name, payload });
  }
}

/** A connection that comes back. Make one with connect(). */
export class Gateway extends Source {
  status = "new";
  transport = "";
  _queue = [];
  _streams = new Map(); // by name, which may be any: a dict would know "constructor"
  _seen = new Map(); // ids, and the number of the link that brought each
  _bars = {}; // transports, and until when each is passed over
  _links = 0;
  _rounds = 0; // that failed, one after the other
  _wasOpen = false;
  _refusals = 0; // of these, the last that ended with a clear no
  _gone = new AbortController();

  constructor(url, options = {}) {
    super("open", "message", "missed", "status", "close");
    this.options = { ...DEFAULTS, ...options };
    const { transports, lastEventId } = this.options;
    this._urls = Array.isArray(transports) ? Object.fromEntries(transports.map(name => [name, url])) : transports;
    this._names = Object.keys(this._urls);
    if (!this._names.length) throw new TypeError("no transports");
    for (const [name, where] of Object.entries(this._urls)) {
      if (!KINDS[name]) throw new TypeError(`${name} is no transport: ${DEFAULTS.transports.join(", ")} are`);
      if (typeof where !== "function") new URL(where, baseURL); // throws what is wrong with it
      this._bars[name] = { until: 0, count: 0, deaths: 0 };
    }
    this.position = lastEventId ?? "";
    this._listen(globalThis, "online", () => this._online());
    this._listen(globalThis, "offline", () => this.status === "waiting" && this._round());
    this._listen(globalThis, "pagehide", () => this._suspend());
    this._listen(globalThis, "pageshow", () => this._resume());
    this._listen(page, "freeze", () => this._suspend());
    this._listen(page, "resume", () => this._resume());
    this._listen(page, "visibilitychange", () => hidden() || this._seenAgain());
    queueMicrotask(() => this.status === "new" && this._round());
  }

  send(data) {
    return new Promise((resolve, reject) => {
      const binary = data instanceof Blob || data instanceof ArrayBuffer || ArrayBuffer.isView(data);
      data = binary ? new Blob([data]) : typeof data === "string" ? data : JSON.stringify(data);
      if (data === undefined) throw new TypeError("not a text, bytes, or anything that JSON knows");
      const { queue, queueBytes } = this.options;
      const size = binary ? data.size : encoder.encode(data).length;
      const waiting = this._queue.reduce((sum, item) => sum + item.size, 0);
      if (this._queue.length >= queue || (waiting && waiting + size > queueBytes)) throw problem("too much waits to be sent");
      this._keep({ data, size, resolve, reject }, "push");
      this._link?.pump();
    });
  }

  stream(name) {
    if (!this._streams.has(name)) this._streams.set(name, new Stream(this, name));
    return this._streams.get(name);
  }

  close() {
    this._finish(1000, "closed by the page");
  }

  // ------------------------------------------------ rounds

  _round() {
    this._stop();
    if (globalThis.navigator?.onLine === false && !isLocal(this._urls[this._names[0]])) return this._become("offline");
    const free = this._names.filter(name => this._bars[name].until <= Date.now());
    this._clear = undefined; // what was answered; null once something gave no clear answer
    this._become("connecting");
    this._try(free.length ? free : this._names, []);
  }

  _try([name, ...rest], failed) {
    this._attempt = new KINDS[name](this, name, { rest, failed });
  }

  _ready(link) {
    this._attempt = this._better = undefined;
    this._link?.drop();
    this._link = link;
    this._refusals = 0;
    link.failed.forEach(name => this._bar(name));
    this.transport = link.name;
    this._plan();
    this._become("open");
    this._emit("open", { transport: link.name, resumed: this._wasOpen });
    this._wasOpen = true;
    this._link?.pump();
  }

  _ended(link, { code, reason, status, delay }) {
    const { name, opened, rest, failed } = link;
    const bar = this._bars[name];
    if (link === this._better) { // the one that is there goes on
      this._better = undefined;
      this._bar(name);
      return this._plan();
    }
    this._link = this._attempt = undefined;
    if (opened) {
      if (isFinal(code)) return this._finish(code, reason);
      if (Date.now() - opened >= LIVED) this._rounds = bar.count = bar.deaths = 0;
      else if (delay === undefined && ++bar.deaths >= 3) this._bar(name);
      return this._later(delay, reason);
    }
    const denied = status === 401 || status === 403;
    if (status === 204 || (denied && name === "sse" && !this._wasOpen)) return this._finish(status, reason);
    if (status === 503 || status === 429) return this._later(delay, reason);
    // Why a WebSocket is not opened no browser says.
    if (name !== "websocket") this._clear = status < 500 && this._clear !== null ? status : null;
    if (rest.length && !denied) return this._try(rest, [...failed, name]);
    this._refusals = this._clear ? this._refusals + 1 : 0;
    if (this._refusals >= 3) return this._finish(status, reason);
    this._later(delay, reason);
  }

  _later(delay, reason) {
    this._stop();
    const { minDelay, maxDelay } = this.options;
    const most = hidden() && this._rounds ? maxDelay : Math.min(minDelay * 2 ** this._rounds, maxDelay);
    this._rounds++;
    delay = Math.min(delay ?? Math.random() * most, LONGEST);
    this._timer = setTimeout(() => this._round(), delay);
    this._become("waiting", { delay, reason });
  }

  _bar(name) {
    const bar = this._bars[name];
    bar.until = Date.now() + Math.min((this.options.probe || DEFAULTS.probe) * 2 ** bar.count++, LONGEST);
    bar.deaths = 0;
  }

  _plan() { // when to try a better transport, while the one that is there goes on
    clearTimeout(this._timer);
    const better = this._names.slice(0, this._names.indexOf(this.transport));
    if (!better.length || !this.options.probe || this._better) return;
    const [name] = better.sort((one, other) => this._bars[one].until - this._bars[other].until);
    const left = Math.max(this._bars[name].until - Date.now(), GRACE);
    this._timer = setTimeout(() => hidden() || (this._better = new KINDS[name](this, name)), left);
  }

  _stop() {
    clearTimeout(this._timer);
    for (const link of [this._link, this._attempt, this._better]) link?.drop();
    this._link = this._attempt = this._better = undefined;
    this.transport = "";
  }

  _become(status, more) {
    this.status = status;
    this._emit("status", { status, ...more });
  }

  _finish(code, reason) {
    if (this.status === "closed") return;
    this._stop();
    this._gone.abort();
    this._end = reason;
    this._become("closed", { reason });
    this._queue.splice(0).forEach(item => this._keep(item));
    this._emit("close", { code, reason });
  }

  _keep(item, how = "unshift") { // until there is a connection
    if (this.status === "closed") item.reject(problem(`not sent, the connection is closed: ${this._end}`));
    else this._queue[how](item);
  }

  // ------------------------------------------------ the page

  _listen(target, type, act) {
    target?.addEventListener?.(type, () => this.status === "closed" || act(), { signal: this._gone.signal });
  }

  _online() { // over another network: what is open there may be so in name only
    this._rounds = 0;
    if (this._link) this._link.end({ reason: "another network", delay: 0 });
    else if (this.status !== "suspended") this._round();
  }

  _seenAgain() {
    if (this.status === "waiting") return this._round();
    if (!this._link) return;
    this._link.check();
    if (this._link) this._plan();
  }

  _suspend() {
    this._stop();
    this._become("suspended");
  }

  _resume() {
    if (this.status === "suspended") this._round();
  }

  // ------------------------------------------------ what is heard

  _receive(link, message) {
    if (link !== this._link) return;
    const { id, text, name = "", missed, close, reason = "" } = message;
    let { bytes } = message;
    if (id !== undefined) {
      // Ids that came by another connection: a replay overlaps.
      if ((this._seen.get(id) ?? link.number) !== link.number) return;
      this._seen.set(id, link.number);
      if (this._seen.size > SEEN && !this._better) this._seen.delete(this._seen.keys().next().value);
      this.position = id;
    }
    if (missed) this._emit("missed");
    if (close !== undefined) return link.end({ code: close, reason, delay: inReason(reason) });
    if (typeof bytes === "string") bytes = unbase64(bytes);
    const data = text ?? bytes;
    if (data === undefined) return;
    const [stream, payload] = this._ofStream(text);
    if (stream) stream._emit("message", { data: payload, id });
    else this._emit("message", { data, id, name });
  }

  _ofStream(text) {
    if (text && this._streams.size) {
      try {
        const { stream, payload } = JSON.parse(text);
        return [this._streams.get(stream), payload];
      } catch {} // some other text
    }
    return [];
  }
}

/** Connect, and stay connected. */
export const connect = (url, options) => new Gateway(url, options);
