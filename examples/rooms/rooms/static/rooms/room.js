// One connection, at the address of the page. Every message is {"kind": …}; each kind has its function.
import { connect } from "gateway-client";

const posts = document.querySelector("#posts");
const say = document.querySelector("#say");
const upload = document.querySelector("#upload");
const state = document.querySelector("#state");
const here = new Map(); // connections and the names of those who have them
const room = connect(location.pathname, {transports: ["websocket"]});

const kinds = {
  welcome(message) {
    posts.replaceChildren();
    message.posts.forEach(show);
    here.clear();
    Object.entries(message.here).forEach(([who, name]) => here.set(who, name));
    showWhoIsHere();
  },
  post: message => show(message.post),
  joined(message) { here.set(message.who, message.name); showWhoIsHere(); },
  left(message) { here.delete(message.who); showWhoIsHere(); },
  notice: message => line("notice").append(message.text),
  refused: message => line("notice").append(Object.values(message.errors).flat().map(error => error.message).join(" ")),
};

room.onmessage = event => {
  const message = event.json();
  kinds[message.kind](message);
};

room.onstatus = ({status, reason}) => { state.textContent = reason || (status === "open" ? "connected" : status); };

room.onclose = ({code}) => {
  if (code === 4401) location.href = say.dataset.login; // logged out, or deactivated
};

function show(post) { // again, if something about it is new
  const id = `post-${post.id}`;
  const shown = document.getElementById(id) || line("post");
  shown.id = id;
  const author = document.createElement("b");
  author.textContent = post.author;
  const time = document.createElement("time");
  time.textContent = new Date(post.sent).toLocaleTimeString();
  let text = document.createTextNode(post.text);
  if (post.file) {
    text = document.createElement("a");
    text.href = post.file;
    text.textContent = post.text;
  }
  const digest = document.createElement("small");
  digest.textContent = post.sha256 && `sha256 ${post.sha256.slice(0, 16)}…`;
  shown.replaceChildren(time, " ", author, " ", text, " ", digest);
}

function line(name) {
  const made = document.createElement("li");
  made.className = name;
  posts.append(made);
  posts.scrollTop = posts.scrollHeight;
  return made;
}

function showWhoIsHere() {
  const names = [...new Set(here.values())].sort();
  document.querySelector("#here").textContent = names.join(", ");
}

say.addEventListener("submit", event => {
  event.preventDefault();
  room.send({text: say.text.value}).catch(error => line("notice").append(error.message));
  say.reset();
});

upload.addEventListener("submit", async event => {
  event.preventDefault();
  const response = await fetch(upload.action, {method: "POST", body: new FormData(upload)});
  if (response.ok) upload.reset();
  else line("notice").append(`not uploaded: ${response.status}`);
});
