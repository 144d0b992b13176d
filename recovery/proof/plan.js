"use strict";
const plan = JSON.parse(document.getElementById("plan").textContent);
const find = (id) => document.getElementById(id);
const WIDTH = 300, GAP_X = 90, GAP_Y = 26, HEAD = 52, ROW = 22, SHOWN = 12;

// --- what the plan says -----------------------------------------------------------------------------------
const steps = new Map(plan.steps.map((step) => [step.step, step]));
const objects = new Map(), home = new Map(), usedBy = new Map();
for (const step of plan.steps) for (const object of step.objects) {
  objects.set(object.position, object);
  home.set(object.position, step.step);
  for (const need of object.needs) if (need.position) {
    if (!usedBy.has(need.position)) usedBy.set(need.position, []);
    usedBy.get(need.position).push({ from: object.position, why: need.why });
  }
}
const nameOf = (o) => `${o.kind} ${o.namespace ? o.namespace + "/" : ""}${o.name}`;
const lacks = (o) => o.needs.some((need) => need.position === null && !need.optional);
const counted = (step) => `${step.objects.length} object${step.objects.length === 1 ? "" : "s"}`;
const critical = new Set(plan.criticalPath);

// --- where each step is drawn: a column for each rank of waiting -----------------------------------------------
const level = new Map();
for (const step of plan.steps) level.set(step.step, 1 + Math.max(-1, ...step.after.map((n) => level.get(n))));
const open = new Set();
const heightOf = (step) => {
  const rows = open.has(step.step) ? step.objects.length : Math.min(step.objects.length, SHOWN);
  return HEAD + ROW * (rows + (step.objects.length > SHOWN ? 1 : 0)) + 8;
};
const place = new Map();
let size = { width: 0, height: 0 };

function make(tag, text, parts) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  Object.assign(element, parts || {});
  return element;
}

function rowOf(object) {
  const row = make("button", undefined, { className: "row", title: object.reason });
  row.dataset.position = object.position;
  row.append(make("span", object.position), make("span", object.kind), make("b", (object.namespace ? object.namespace + "/" : "") + object.name));
  if (lacks(object)) row.classList.add("lacks");
  if (object.position === chosen) row.classList.add("chosen");
  if (matches.has(object.position)) row.classList.add("hit");
  row.addEventListener("click", () => choose(object.position));
  return row;
}

// Columns are written like text, in lines that fit the window: a long chain of waits would else be a thin thread.
function arrange() {
  const columns = 1 + Math.max(0, ...level.values()), tall = new Array(columns).fill(0);
  for (const step of plan.steps) tall[level.get(step.step)] += heightOf(step) + GAP_Y;
  const box = find("view").getBoundingClientRect();
  let best = { scale: -1 };
  for (let across = 1; across <= columns; across++) {
    const tops = [];
    let height = 0;
    for (let first = 0; first < columns; first += across) {
      tops.push(height);
      height += Math.max(...tall.slice(first, first + across)) + GAP_Y * 2;
    }
    const width = across * (WIDTH + GAP_X), scale = Math.min(box.width / width, box.height / height);
    if (scale > best.scale) best = { scale, across, tops, width, height };
  }
  size = { width: best.width, height: best.height };
  const next = new Map();
  for (const step of plan.steps) {
    const column = level.get(step.step), height = heightOf(step);
    const y = next.get(column) ?? best.tops[Math.floor(column / best.across)];
    place.set(step.step, { x: (column % best.across) * (WIDTH + GAP_X), y, height });
    next.set(column, y + height + GAP_Y);
  }
}

function draw() {
  const world = find("world");
  world.querySelectorAll(".card").forEach((card) => card.remove());
  arrange();
  for (const step of plan.steps) {
    const { x, y, height } = place.get(step.step);
    const card = make("div", undefined, { className: "card" + (critical.has(step.step) ? " critical" : "") });
    card.style.cssText = `left:${x}px;top:${y}px;height:${height}px`;
    card.append(make("h2", `${step.step}. ${step.application}`));
    const count = step.objects.length;
    card.append(make("p", `${step.phase}, wave ${step.wave}, ${counted(step)}`));
    const rows = open.has(step.step) ? step.objects : step.objects.slice(0, SHOWN);
    for (const object of rows) card.append(rowOf(object));
    if (count > SHOWN) {
      const more = make("button", open.has(step.step) ? "show fewer" : `${count - SHOWN} more`, { className: "row more" });
      more.addEventListener("click", () => { open.has(step.step) ? open.delete(step.step) : open.add(step.step); draw(); });
      card.append(more);
    }
    world.append(card);
  }
  drawEdges();
}

function anchor(position) {
  const step = steps.get(home.get(position)), at = place.get(step.step);
  const index = step.objects.findIndex((object) => object.position === position);
  const rows = open.has(step.step) ? step.objects.length : Math.min(step.objects.length, SHOWN);
  return { x: at.x, y: at.y + HEAD + ROW * (Math.min(index, rows) + 0.5) };
}

function line(from, to, className) {
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const bend = Math.min(220, Math.max(40, Math.abs(to.x - from.x) / 2));
  path.setAttribute("d", `M${from.x} ${from.y} C${from.x + bend} ${from.y} ${to.x - bend} ${to.y} ${to.x} ${to.y}`);
  path.setAttribute("class", className);
  return path;
}

function drawEdges() {
  const svg = find("edges");
  svg.replaceChildren();
  for (const step of plan.steps) for (const before of step.after) {
    const from = place.get(before), to = place.get(step.step), both = critical.has(before) && critical.has(step.step);
    svg.append(line({ x: from.x + WIDTH, y: from.y + 24 }, { x: to.x, y: to.y + 24 }, both ? "critical" : ""));
  }
  if (!chosen) return;
  const here = anchor(chosen), there = { x: here.x + WIDTH, y: here.y };
  for (const need of objects.get(chosen).needs) if (need.position) {
    const other = anchor(need.position);
    svg.append(line({ x: other.x + WIDTH, y: other.y }, here, "need"));
  }
  for (const user of (usedBy.get(chosen) || []).slice(0, 200)) svg.append(line(there, anchor(user.from), "used"));
}

// --- one object in words ----------------------------------------------------------------------------------------
let chosen = 0;
let matches = new Set();

function link(position, text, why) {
  const item = make("li");
  if (position) {
    const button = make("button", text);
    button.addEventListener("click", () => { choose(position); centre(position); });
    item.append(button);
  } else item.append(make("span", text));
  item.append(make("small", why));
  return item;
}

function choose(position) {
  chosen = chosen === position ? 0 : position;
  document.querySelectorAll(".row.chosen").forEach((row) => row.classList.remove("chosen"));
  document.querySelectorAll(`.row[data-position="${chosen}"]`).forEach((row) => row.classList.add("chosen"));
  drawEdges();
  tell();
}

function tell() {
  const side = find("side");
  side.replaceChildren();
  if (!chosen) return tellPlan(side);
  const object = objects.get(chosen), step = steps.get(home.get(chosen));
  side.append(make("h2", nameOf(object)));
  side.append(make("p", `${object.group ? object.group + "/" : ""}${object.version}; position ${object.position} of ${objects.size}, step ${step.step}`));
  side.append(make("h3", "Why here"), make("p", object.reason));
  const list = make("ul"), users = make("ul");
  for (const need of object.needs) {
    const missing = need.position === null;
    const from = need.from && need.from !== need.object ? ` (from ${need.from})` : "";
    const item = link(need.position, need.object + from, need.why + (need.optional ? "; can do without" : "") + (missing ? "; not in Git" : ""));
    if (missing && !need.optional) item.firstChild.className = "bad";
    list.append(item);
  }
  for (const user of usedBy.get(chosen) || []) users.append(link(user.from, nameOf(objects.get(user.from)), user.why));
  side.append(make("h3", `Needs (${list.childNodes.length})`), list, make("h3", `Needed by (${users.childNodes.length})`), users);
}

function tellPlan(side) {
  side.append(make("h2", "The plan"), make("p", `Hash ${plan.plan.slice(0, 16)}`));
  const problems = plan.applications.flatMap((app) => app.problems);
  if (problems.length) side.append(make("h3", `Problems (${problems.length})`));
  for (const problem of problems) side.append(make("div", `${problem.where}: ${problem.message} (${problem.reason})`, { className: "problem" }));
  const path = make("ul");
  for (const number of plan.criticalPath) {
    const step = steps.get(number);
    path.append(link(step.objects.length ? step.objects[0].position : 0, `${number}. ${step.application}`, `${step.phase}, wave ${step.wave}, ${counted(step)}`));
  }
  side.append(make("h3", "Critical path"), make("p", "The longest chain of steps that wait for each other; nothing makes a rebuild shorter but shortening it."), path);
  const pins = make("ul");
  for (const [place, commit] of Object.entries(plan.pins)) pins.append(link(0, place, commit));
  side.append(make("h3", "Pinned"), pins);
}

// --- moving about --------------------------------------------------------------------------------------------------
let view = { x: 24, y: 24, scale: 1 };
function show() { find("world").style.transform = `translate(${view.x}px,${view.y}px) scale(${view.scale})`; }
function zoom(factor, x, y) {
  const scale = Math.min(3, Math.max(0.03, view.scale * factor)), real = scale / view.scale;
  view = { x: x - (x - view.x) * real, y: y - (y - view.y) * real, scale };
  show();
}
function middle() { const box = find("view").getBoundingClientRect(); return [box.width / 2, box.height / 2]; }
function fit() {
  const box = find("view").getBoundingClientRect();
  const scale = Math.min(1.2, Math.max(0.03, Math.min((box.width - 48) / size.width, (box.height - 48) / size.height)));
  view = { x: 24, y: 24, scale };
  show();
}
function centre(position) {
  const at = anchor(position), [x, y] = middle(), scale = Math.max(view.scale, 0.8);
  view = { x: x - (at.x + WIDTH / 2) * scale, y: y - at.y * scale, scale };
  show();
}
find("view").addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = find("view").getBoundingClientRect();
  zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
let drag = null;
find("view").addEventListener("pointerdown", (event) => {
  if (event.target.closest("button")) return;
  drag = { x: event.clientX - view.x, y: event.clientY - view.y };
  find("view").setPointerCapture(event.pointerId);
  find("view").classList.add("dragging");
});
find("view").addEventListener("pointermove", (event) => {
  if (drag) { view.x = event.clientX - drag.x; view.y = event.clientY - drag.y; show(); }
});
for (const end of ["pointerup", "pointercancel"]) find("view").addEventListener(end, () => { drag = null; find("view").classList.remove("dragging"); });
find("in").addEventListener("click", () => zoom(1.25, ...middle()));
find("out").addEventListener("click", () => zoom(0.8, ...middle()));
find("fit").addEventListener("click", fit);
find("critical").addEventListener("click", (event) => {
  const on = find("world").classList.toggle("only-critical");
  event.currentTarget.setAttribute("aria-pressed", on);
});
function theme(name) { document.documentElement.dataset.theme = name; }
theme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
find("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));

let turn = 0;
function search() {
  const words = find("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = words.length ? [...objects.values()].filter((o) => words.every((word) => `${o.group}/${nameOf(o)}`.toLowerCase().includes(word))) : [];
  matches = new Set(found.map((o) => o.position));
  for (const position of matches) if (steps.get(home.get(position)).objects.length > SHOWN && matches.size <= 200) open.add(home.get(position));
  find("world").classList.toggle("searching", words.length > 0);
  find("hits").textContent = words.length ? `${matches.size} found` : "";
  turn = 0;
  draw();
}
find("search").addEventListener("input", search);
find("search").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !matches.size) return;
  const all = [...matches], position = all[turn++ % all.length];
  chosen = 0;
  choose(position);
  centre(position);
});

find("facts").textContent = `${plan.applications.length} applications, ${plan.steps.length} steps, ${objects.size} objects`;
draw();
tell();
fit();
const asked = decodeURIComponent(location.hash.slice(1));
if (asked === "dark" || asked === "light") theme(asked);
else if (asked) { find("search").value = asked; search(); if (matches.size) { choose([...matches][0]); } }
