/** The transports there are. */
export type Transport = "websocket" | "sse" | "longpoll";

/** An address, or what gives one, anew for each attempt: with a token that has not expired, say. */
export type Address = string | URL | ((transport: Transport) => string | URL | Promise<string | URL>);

export interface Options {
  /** What to try, best first; or an address for each. Default: websocket, sse, longpoll. */
  transports?: readonly Transport[] | Partial<Record<Transport, Address>>;
  /** Where to go on: the `position` of an earlier page. Default: now. */
  lastEventId?: string | null;
  /** Milliseconds within which the first attempt to come back is made, twice as many for each later one. Default: 1000. */
  minDelay?: number;
  /** Milliseconds, the most of these. Default: 30000. */
  maxDelay?: number;
  /** Milliseconds until something has to be heard. Default: 8000. */
  openTimeout?: number;
  /** Milliseconds until a better transport is tried again, each time twice as many; 0: never. Default: 15000. */
  probe?: number;
  /** How many messages may wait for a connection. Default: 100. */
  queue?: number;
  /** How many bytes these may have, but for the first. Default: 1000000. */
  queueBytes?: number;
  /** Whether other origins are sent their cookies. Default: false. */
  withCredentials?: boolean;
}

/**
 * `offline`: until the machine has a network. `suspended`: until the page is shown again.
 * `closed`: for good.
 */
export type Status = "new" | "connecting" | "open" | "waiting" | "offline" | "suspended" | "closed";

/** What can be sent: a text, bytes, or anything that JSON knows. */
export type Sendable = string | ArrayBuffer | ArrayBufferView | Blob | Json;
export type Json = string | number | boolean | null | { readonly [key: string]: unknown } | readonly unknown[];

export interface MessageEvent<Data = string | ArrayBuffer> extends Event {
  /** A text, or bytes; in a stream its payload. */
  readonly data: Data;
  /** Its id, if it is kept. */
  readonly id: string | undefined;
}

export interface TextEvent extends MessageEvent {
  /** The `event` that the application gave it, where that came by Server-Sent Events; else "". */
  readonly name: string;
  /** The text, parsed as JSON. */
  json<T = any>(): T;
}

export interface OpenEvent extends Event {
  readonly transport: Transport;
  /** Whether there was a connection before. */
  readonly resumed: boolean;
}

export interface StatusEvent extends Event {
  readonly status: Status;
  /** `waiting`: milliseconds until the next attempt. */
  readonly delay?: number;
  /** `waiting`, `closed`: why. */
  readonly reason?: string;
}

export interface CloseEvent extends Event {
  /** The application's close code, or the HTTP status of its refusal. */
  readonly code: number;
  readonly reason: string;
}

/** Why something was not sent: the promise of `send` is rejected with it. */
export interface SendError extends Error {
  /** The HTTP status that answered it. */
  readonly status?: number;
  /** Whether it may have arrived all the same. */
  readonly unsure?: boolean;
}

interface Events {
  open: OpenEvent;
  message: TextEvent;
  missed: Event;
  status: StatusEvent;
  close: CloseEvent;
}

/** A connection that comes back. */
export class Gateway extends EventTarget {
  constructor(url: Address, options?: Options);
  readonly status: Status;
  /** What it is connected by; "" while it is not. */
  readonly transport: Transport | "";
  /** Where it is: what to give as `lastEventId` to go on from here. */
  readonly position: string;

  /** Each time that it is connected. */
  onopen: ((event: OpenEvent) => void) | null;
  onmessage: ((event: TextEvent) => void) | null;
  /** More was missed than the application keeps: load what you show anew. */
  onmissed: ((event: Event) => void) | null;
  onstatus: ((event: StatusEvent) => void) | null;
  /** Once, when it is over: closed or refused by the application, or by `close()`. */
  onclose: ((event: CloseEvent) => void) | null;

  /**
   * Send a message, now or when there is a connection. Resolves when it is written (WebSocket) or
   * accepted by the application (the others); rejects with a `SendError` when it never will be.
   */
  send(data: Sendable): Promise<void>;
  /** The part of the connection with that name: messages `{stream, payload}`. */
  stream<Payload = any>(name: string): Stream<Payload>;
  /** End it. */
  close(): void;

  addEventListener<Type extends keyof Events>(
    type: Type,
    listener: ((event: Events[Type]) => void) | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Type extends keyof Events>(
    type: Type,
    listener: ((event: Events[Type]) => void) | null,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

export interface Stream<Payload = any> extends EventTarget {
  readonly name: string;
  onmessage: ((event: MessageEvent<Payload>) => void) | null;
  /** Send a payload; as `Gateway.send`. */
  send(payload: Json): Promise<void>;
  addEventListener(
    type: "message",
    listener: ((event: MessageEvent<Payload>) => void) | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** Connect, and stay connected. */
export function connect(url: Address, options?: Options): Gateway;

/** The parser of an event stream by the HTML standard: give what it returns texts, cut anyhow. */
export function eventStream(
  take: (event: { name?: string; id?: string; data?: string; retry?: number }) => void,
): (text: string) => void;
