// Runs the script of the page against a small stand-in for the DOM: node page.js PAGE < ids.json
// Prints the requests that it sends, the texts that it shows and the address after two clicks.
"use strict";
const fs = require("fs");
const script = fs.readFileSync(process.argv[2], "utf8").match(/<script>([\s\S]*)<\/script>/)[1];
const ids = JSON.parse(fs.readFileSync(0, "utf8"));

class Element {
  constructor() { this.children = []; this.text = ""; this.value = ""; this.listeners = {}; }
  get textContent() { return this.text + this.children.map(one => one.textContent).join(""); }
  set textContent(text) { this.text = String(text); this.children = []; }
  set innerHTML(text) { throw new Error("data was used as markup: " + text); }
  setAttribute() {}
  addEventListener(name, act) { this.listeners[name] = act; }
  append(...children) { this.children.push(...children); }
  replaceChildren(...children) { this.children = children; }
  focus() {}
}

const elements = {}, requests = [];
const document = {
  getElementById: id => elements[id] ||= new Element(),
  createElement: () => new Element(),
};
const href = "http://localhost:8000/?" + new URLSearchParams(ids.map(id => ["history", id]));
const window = { history: { replaceState: (state, title, url) => { window.address = url; } } };

async function fetch(path, options) {
  requests.push([path, options ? JSON.parse(options.body) : null]);
  const items = ids.map((item, item_index) => ({ item, item_index, score: -item_index }));
  const answers = { recommend: { items, gate: { image: 0.25 } }, health: { model: "m", items: 9 } };
  return { ok: true, json: async () => answers[path] || { items: [...ids, "added"] } };
}

new Function("document", "location", "window", "fetch", script)(document, { href }, window, fetch);
setTimeout(() => {
  const shown = elements.best.children.map(row => row.children[0].textContent);
  elements.found.children.at(-1).children[0].listeners.click();
  elements.chosen.children[0].children[0].listeners.click();
  const address = new URL(window.address).searchParams.getAll("history");
  console.log(JSON.stringify({ requests, shown, address, status: elements.status.textContent }));
}, 50);
