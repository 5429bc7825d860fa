"use strict";
// Ids, titles and everything else that comes from data are text here, never markup.
const NUM_BEST = 12, NUM_FOUND = 12;
const at = id => document.getElementById(id);
const address = new URL(location.href);
const chosen = new Map();  // raw id, as text, to the item's card
for (const item of address.searchParams.getAll("history").filter(Boolean)) chosen.set(item, { item });
let service = {}, asked = 0, searched = 0;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function draw(tag, attributes = {}, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

const label = card => card.title || card.item;

function button(text, action, attributes = {}) {
  const element = make("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", action);
  return element;
}

// Pictures come from the data themselves, or from a host that the service allows.
function mayShow(address) {
  if (address.startsWith("data:image/")) return true;
  try {
    const url = new URL(address);
    const hosts = service.image_hosts || [];
    return /^https?:$/.test(url.protocol) && (hosts.includes(url.host) || hosts.includes(url.hostname));
  } catch {
    return false;
  }
}

function picture(card) {
  const frame = make("span", { class: "picture", "aria-hidden": "true" });
  if (card.image && mayShow(card.image)) {
    const image = make("img", { src: card.image, alt: "", loading: "lazy", referrerpolicy: "no-referrer" });
    image.addEventListener("error", () => frame.replaceChildren(label(card).slice(0, 1)));
    frame.append(image);
  } else {
    frame.append(label(card).slice(0, 1).toUpperCase());
  }
  return frame;
}

function name(card) {
  const small = [card.category, card.title && card.item].filter(Boolean).join(" · ");
  const element = make("span", { class: "name" }, label(card));
  if (card.new) element.append(make("span", { class: "new" }, "new"));
  if (small) element.append(make("small", {}, small));
  return element;
}

// A bar from zero; `low` and `high` are the ends of the scale, with zero between them.
function track(value, low, high) {
  const range = high - low || 1, zero = -low / range;
  const bar = make("i", value < 0 ? { class: "minus" } : {});
  bar.style.left = 100 * (value < 0 ? zero + value / range : zero) + "%";
  bar.style.width = 100 * Math.abs(value) / range + "%";
  const element = make("div", { class: "track", "aria-hidden": "true" }, bar);
  if (low < 0) {
    const axis = make("b");
    axis.style.left = 100 * zero + "%";
    element.append(axis);
  }
  return element;
}

function bars(entries, show = value => value.toFixed(2)) {
  const values = entries.map(([, value]) => value);
  const low = Math.min(0, ...values), high = Math.max(0, ...values);
  return entries.map(([text, value]) =>
    make("li", {}, make("span", {}, text), track(value, low, high), make("output", {}, show(value))));
}

async function call(path, body) {
  const options = body && {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  const response = await fetch(path, options);
  const answer = await response.json();
  if (response.ok) return answer;
  const detail = answer.detail;
  throw new Error(typeof detail === "string" ? detail : detail.map(one => one.msg).join("; "));
}

function showStatus(text, wrong = false) {
  at("status").textContent = text;
  at("status").className = wrong ? "wrong" : "";
}

function change(card, keep) {
  if (keep) chosen.set(card.item, card); else chosen.delete(card.item);
  address.searchParams.delete("history");
  for (const one of chosen.keys()) address.searchParams.append("history", one);
  window.history.replaceState(null, "", address);
  refresh();
  if (!keep) at("search").focus();
}

function showHistory() {
  at("hint").hidden = chosen.size > 0;
  at("history").replaceChildren(...[...chosen.values()].map(card => {
    const chip = button("", () => change(card, false), { "aria-label": "Remove " + label(card) });
    chip.append(picture(card), make("span", {}, label(card) + " ×"));
    return make("li", {}, chip);
  }));
}

function rows(cards) {
  return cards.map(card => {
    const row = button("", () => change(card, true), { "aria-label": "Add " + label(card) });
    row.append(picture(card), name(card));
    return make("li", {}, row);
  });
}

async function refresh() {
  const now = ++asked, history = [...chosen.keys()];
  showHistory();
  if (!chosen.size) {
    at("best").replaceChildren();
    at("gate-part").hidden = true;
    return showStatus("Pick items on the left, and recommendations appear here.");
  }
  try {
    const answer = await call("recommend", { history, k: NUM_BEST });
    if (now !== asked) return;  // the history has changed since
    const highest = Math.max(0, ...answer.items.map(one => one.score));
    const lowest = Math.min(0, ...answer.items.map(one => one.score));
    at("best").replaceChildren(...answer.items.map(one => bestCard(one, lowest, highest)));
    at("gate-part").hidden = !(answer.gate && answer.gate_is_personal);
    if (answer.gate) {
      at("gate").replaceChildren(...bars(
        Object.entries(answer.gate), share => (100 * share).toFixed(0) + " %"));
    }
    showStatus(answer.items.length + " items recommended.");
    if (!service.explains || !answer.items.length) return;
    const items = answer.items.map(one => one.item);
    const { explanations } = await call("explain", { history, items, num_items: 8 });
    if (now === asked) explanations.forEach((one, n) => addReason(at("best").children[n], one));
  } catch (error) {
    if (now === asked) showStatus(error.message, true);
  }
}

function bestCard(card, lowest, highest) {
  const title = make("h3", {}, label(card));
  if (card.new) title.append(make("span", { class: "new", title: "No training user has it" }, "new"));
  const small = [card.category, card.title && card.item].filter(Boolean).join(" · ");
  const score = make("div", { class: "score" }, track(card.score, lowest, highest),
    make("output", { title: "score" }, card.score.toFixed(2)));
  const actions = make("div", { class: "actions" },
    button("Add to history", () => change(card, true), { "aria-label": "Add " + label(card) }),
    button("Similar", () => showSimilar(card), { "aria-label": "Items similar to " + label(card) }));
  return make("li", {},
    make("div", { class: "top" }, picture(card), make("div", {}, title, make("p", {}, small), score)),
    make("p", { class: "because" }), actions);
}

function addReason(row, explanation) {
  const because = row.children[1], actions = row.children[2];
  explanation.because.forEach(({ item, why }, n) =>
    because.append(n ? "; and of " : "Because of ", make("q", {}, label(item)), ": " + why.join(", ")));
  const open = button("Why?", () => {
    const shown = row.children.length > 3;
    if (shown) row.children[3].remove(); else row.append(reasons(explanation));
    row.classList.toggle("open", !shown);
    open.setAttribute("aria-expanded", String(!shown));
  }, { "aria-expanded": "false", "aria-label": "Why " + label(explanation.item) + "?" });
  actions.append(open);
}

function reasons({ item, score, parts, history, unnamed, between, links }) {
  const list = (title, entries) => make("div", {}, make("h3", {}, title),
    make("ul", { class: "bars" }, ...bars(entries)));
  const remainder = ["remainder (C-Net, bias)", parts.remainder];
  const byItem = history.map(one => [label(one.item), one.value]);
  if (unnamed) byItem.push(["other items", unnamed]);
  const byPart = Object.entries(parts).filter(([part]) => part !== "remainder")
    .map(([part, value]) => [part.replace("_", ", "), value]);
  const box = make("div", { class: "why" },
    list("Score " + score.toFixed(2) + " by item of the history", [...byItem, remainder]),
    list("By part", [...byPart, remainder]));
  if (links.length) box.append(connections(item, history.map(one => one.item), between, links));
  return box;
}

// The connections of items in the training data, from the history on the left to the item.
function connections(item, history, between, links) {
  const linked = new Set(links.flatMap(link => [link.source, link.target]));
  const columns = [history.filter(one => linked.has(one.item)), between, [item]];
  const step = 38, half = 105, tall = Math.max(...columns.map(one => one.length)), place = new Map();
  columns.forEach((cards, column) => cards.forEach((card, n) =>
    place.set(card.item, [half + 5 + 370 * column, step * ((tall - cards.length) / 2 + n) + 24])));
  const names = ["users", ...new Set(links.map(link => link.relation).filter(one => one !== "users"))];
  const svg = draw("svg", { viewBox: `0 0 960 ${step * tall + 12}`, role: "img" });
  svg.append(draw("title", {}, "Connections of the history with " + label(item)));
  for (const { source, target, relation, weight } of links) {
    const [x, y] = place.get(source), [u, v] = place.get(target), kind = names.indexOf(relation);
    const shift = 4 * (kind - (names.length - 1) / 2);  // relations of the same items lie side by side
    const path = draw("path", { class: "relation-" + kind % 5,
      d: `M${x + half} ${y + shift}C${x + half + 80} ${y + shift} ${u - half - 80} ${v + shift} ` +
        `${u - half} ${v + shift}` });
    const text = relation === "users" ? weight + " users in common" : relation + ", cosine " + weight.toFixed(2);
    path.append(draw("title", {}, text));
    svg.append(path);
  }
  for (const card of columns.flat()) {
    const [x, y] = place.get(card.item), text = label(card);
    const short = text.length > 28 ? text.slice(0, 27) + "…" : text;
    svg.append(draw("rect", { x: x - half, y: y - 13, width: 2 * half, height: 26, rx: 6 }));
    svg.append(draw("text", { x, y: y + 4, "text-anchor": "middle" }, short));
  }
  const legend = names.filter(one => links.some(link => link.relation === one)).map(one =>
    make("span", {}, make("i", { class: "relation-" + names.indexOf(one) % 5 }),
      one === "users" ? "users in common" : "similar " + one));
  return make("figure", {}, svg, make("figcaption", {}, ...legend));
}

async function show(title, path) {
  const now = ++searched;
  try {
    const answer = await call(path);
    if (now !== searched) return;
    at("found-title").textContent = answer.items.length ? title : "Nothing found";
    at("found").replaceChildren(...rows(answer.items));
  } catch (error) {
    showStatus(error.message, true);
  }
}

function search() {
  const query = at("search").value;
  return show(query.trim() ? "Items found" : "Popular items",
    `items?limit=${NUM_FOUND}&query=` + encodeURIComponent(query));
}

async function showSimilar(card) {
  await show("Similar to " + label(card), `similar?k=${NUM_FOUND}&item=` + encodeURIComponent(card.item));
  at("found").children[0]?.children[0].focus();
}

async function start() {
  try {
    service = await call("health");
    at("model").textContent = service.model + ", " + service.items.toLocaleString("en") + " items";
    if (chosen.size) {
      const ids = [...chosen.keys()].map(one => "item=" + encodeURIComponent(one)).join("&");
      const cards = await call("items?" + ids).then(answer => answer.items, () => []);
      for (const card of cards) chosen.set(card.item, card);
    }
  } catch (error) {
    showStatus(error.message, true);
  }
  await Promise.all([search(), refresh()]);
}

at("search").addEventListener("input", search);
start();
