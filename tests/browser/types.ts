// What a page may write; each line after @ts-expect-error may not be.
import { connect, eventStream, Gateway, type SendError, type Stream } from "gateway-client";

interface Post { author: string; text: string }

const gateway: Gateway = connect("/chat/", { lastEventId: sessionStorage.getItem("at"), withCredentials: true, queueBytes: 5000 });
gateway.onmessage = event => {
  const { author }: Post = event.json<Post>();
  author.trim();
  if (typeof event.data === "string") event.data.trim();
  else event.data.byteLength.toFixed();
};
gateway.onstatus = ({ status, delay }) => { if (status === "waiting") (delay ?? 0).toFixed(); };
gateway.onclose = ({ code, reason }) => { if (code === 403) reason.trim(); };
gateway.addEventListener("open", event => event.transport === "sse" && event.resumed);
gateway.addEventListener("anything", () => {});
const sent: Promise<void> = gateway.send({ text: "hello" });
sent.catch((error: SendError) => error.unsure);
gateway.send(new Uint8Array(2));
const prices: Stream<{ gold: number }> = gateway.stream("prices");
prices.onmessage = event => event.data.gold.toFixed();
prices.send([1, 2]);
connect(name => `/token/?for=${name}`, { transports: ["sse"] });
connect("/", { transports: { websocket: "wss://ws.example.org/", longpoll: async () => "/poll/" } });
eventStream(({ data = "" }) => data.trim())("data: x\n\n");

// @ts-expect-error
connect("/", { transports: ["pigeon"] });
// @ts-expect-error
connect("/", { lastEventID: "a-1" });
// @ts-expect-error
gateway.send(undefined);
// @ts-expect-error
gateway.position = "a-1";
// @ts-expect-error
gateway.status === "closing";
// @ts-expect-error
prices.onmessage = event => event.data.silver;
