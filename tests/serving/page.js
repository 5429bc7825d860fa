// Runs the script of the page against a small stand-in for the DOM: node page.js SCRIPT < ids.json
// Prints the requests that it sends, the texts that it shows and the address after two clicks.
"use strict";
const fs = require("fs");
const script = fs.readFileSync(process.argv[2], "utf8");
const ids = JSON.parse(fs.readFileSync(0, "utf8"));

class Element {
  constructor() {
    this.children = []; this.text = ""; this.value = ""; this.listeners = {}; this.style = {};
    this.classList = { toggle() {} };
  }
  get textContent() { return this.text + this.children.map(one => one.textContent).join(""); }
  set textContent(text) { this.text = String(text); this.children = []; }
  set innerHTML(text) { throw new Error("data was used as markup: " + text); }
  setAttribute() {}
  addEventListener(name, act) { this.listeners[name] = act; }
  append(...children) {
    for (const child of children) this.children.push(
      child instanceof Element ? child : Object.assign(new Element(), { text: String(child) }));
  }
  replaceChildren(...children) { this.children = []; this.append(...children); }
  remove() {}
  focus() {}
}

const elements = {}, requests = [];
const document = {
  getElementById: id => elements[id] ||= new Element(),
  createElement: () => new Element(),
  createElementNS: () => new Element(),
};
const href = "http://localhost:8000/?" + new URLSearchParams(ids.map(id => ["history", id]));
const window = { history: { replaceState: (state, title, url) => { window.address = url; } } };

async function fetch(path, options) {
  requests.push([path, options ? JSON.parse(options.body) : null]);
  const cards = ids.map((item, item_index) => ({ item, item_index, score: -item_index }));
  const answers = {
    health: { model: "m", items: 9, explains: true, image_hosts: [] },
    recommend: { items: cards, gate: { image: 0.25 }, gate_is_personal: false },
    explain: { explanations: cards.map((item, n) => ({ item, score: -n, parts: { remainder: -n },
      because: [{ item, why: ["similar image"] }], history: [], unnamed: 0, between: [], links: [] })) },
  };
  const found = path.startsWith("items?item=") ? cards : [...cards, { item: "added" }];
  return { ok: true, json: async () => answers[path] || { items: found } };
}

new Function("document", "location", "window", "fetch", script)(document, { href }, window, fetch);
setTimeout(() => {
  const best = elements.best.children;
  const shown = best.map(row => row.children[0].children[1].children[0].textContent);
  const reasons = best.map(row => row.children[1].textContent);
  elements.found.children.at(-1).children[0].listeners.click();
  elements.history.children[0].children[0].listeners.click();
  const address = new URL(window.address).searchParams.getAll("history");
  const status = elements.status.textContent, gateHidden = elements["gate-part"].hidden;
  console.log(JSON.stringify({ requests, shown, reasons, address, status, gateHidden }));
}, 50);
