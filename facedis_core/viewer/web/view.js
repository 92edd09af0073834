// The page of fd-view: settings of its controls are sent to the server, which returns a face. There
// is one such request at a time; the next one has the latest settings. Another request waits for
// news of standard input where that is shown.
"use strict";

const DIRECTIONS_SHOWN = 8, DIRECTIONS_ADDED = 8;
const MAX_STEP = 3;  // standard deviations
const RETRY_MS = 2000, PAUSE_MS = 200;  // after a request without an answer, and between two without news
const ROOM = 1.12;  // size of the window in mean faces: mouths open, and people differ in size

const find = (selector, within = document) => within.querySelector(selector);
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const floats = (text) => new Float32Array(bytes(text).buffer);

const viewers = [];
const faces = new Map();  // faces to choose from, { label, load } by key
const sides = {};  // first and second: the panels A and B
let model, result;
let opened = 0;  // number of faces of files that were opened on the page
let lost = false;  // the last request had no response
let updates = 0;  // number of results shown, for tests

/** Show a notice in the header for some seconds; an error until the next notice. */
function tell(line, bad = false) {
  const notice = find("#notice");
  notice.textContent = line;
  notice.classList.toggle("bad", Boolean(bad));
  clearTimeout(tell.end);
  if (line && !bad) tell.end = setTimeout(() => tell(""), 8000);
}

/** The server's response; throws an Error with its message where it refuses. */
async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
    if (lost) tell("");
    lost = false;
  } catch {
    lost = true;
    throw new Error("fd-view does not respond; is it still running?");
  }
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const post = (path, body) => ask(path, { method: "POST", body });

/** Run an action of the user, and show its error if it fails. */
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    tell(error.message, true);
  }
}

// Sliders

class Slider {
  /** A labelled range in `parent`; `show` writes its value. */
  constructor(parent, id, label, detail, { low, high, step, start, show }) {
    this.start = start;
    const row = document.createElement("div"), name = document.createElement("label");
    this.input = document.createElement("input");
    this.output = document.createElement("output");
    row.className = "slider";
    name.textContent = `${label} `;
    name.htmlFor = this.input.id = `${parent.closest("[id]").id}-${id}`;
    if (detail) {
      const small = document.createElement("small");
      small.textContent = detail;
      name.append(small);
    }
    Object.assign(this.input, { type: "range", min: low, max: high, step, value: start });
    this.output.htmlFor = this.input.id;
    row.append(name, this.input, this.output);
    parent.append(row);
    this.row = row;
    this.show = show;
    this.input.addEventListener("input", () => {
      this.write();
      update();
    });
    this.input.addEventListener("dblclick", () => {
      this.value = start;
      update();
    });
    this.write();
  }

  get value() {
    return this.input.valueAsNumber;
  }

  set value(value) {
    this.input.value = value;
    this.write();
  }

  write() {
    this.output.textContent = this.show(this.value);
    this.input.setAttribute("aria-valuetext", this.output.textContent);
  }
}

const percent = (value) => `${Math.round(100 * value)} %`;
const capital = (words) => words[0].toUpperCase() + words.slice(1);
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(1);
const between = (value) => (value === 0 ? "A" : value === 1 ? "B" : percent(value));
const mixing = {};
const moves = { identity: [], expression: [] };

function makeMixture() {
  const parent = find("#mixture .sliders"), way = { low: 0, high: 1, step: 0.01, show: between };
  mixing.identity = new Slider(parent, "Identity", "Identity", "A to B", { ...way, start: 0 });
  mixing.expression = new Slider(parent, "Expression", "Expression", "A to B", { ...way, start: 1 });
  mixing.strength = new Slider(parent, "Strength", "Strength", "", {
    low: 0, high: 1.5, step: 0.01, start: 1, show: percent,
  });
  mixing.strength.input.setAttribute("aria-label", "Strength of the expression");
  find("#mixture .reset").addEventListener("click", () => reset(Object.values(mixing)));
}

function reset(sliders) {
  for (const slider of sliders) slider.value = slider.start;
  update();
}

/** The sliders of one part's leading directions. */
function makeDirections(part) {
  const section = find(`#${part}`), parent = find(".sliders", section), more = find(".more", section);
  const all = moves[part];
  const add = (count) => {
    const end = Math.min(all.length + count, model.directions[part].length);
    while (all.length < end) {
      const { region, way, mm } = model.directions[part][all.length], number = all.length + 1;
      const size = `${mm.toPrecision(2)} mm${way && ` ${way}`}`;
      all.push(new Slider(parent, number, capital(region), size, {
        low: -MAX_STEP, high: MAX_STEP, step: 0.1, start: 0, show: signed,
      }));
      all.at(-1).input.setAttribute("aria-label", `${part} direction ${number}: ${region}, ${size}`);
    }
    more.hidden = end === model.directions[part].length;
  };
  add(DIRECTIONS_SHOWN);
  more.addEventListener("click", () => add(DIRECTIONS_ADDED));
  find(".reset", section).addEventListener("click", () => reset(all));
  find(".random", section).addEventListener("click", () => {
    for (const slider of all) slider.value = Math.max(-MAX_STEP, Math.min(MAX_STEP, normal()));
    update();
  });
}

/** A draw from N(0, 1), by Box and Muller. */
function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

// Result

function mixture() {
  const end = ({ name, identity, expression }) => ({ name, identity, expression });
  return JSON.stringify({
    first: end(sides.first.face),
    second: end(sides.second.face),
    share: { identity: mixing.identity.value, expression: mixing.expression.value },
    strength: mixing.strength.value,
    moves: {
      identity: moves.identity.map((slider) => slider.value),
      expression: moves.expression.map((slider) => slider.value),
    },
    part: find("[name=part]:checked").value,
  });
}

let wanted = false, busy = false;

/** Show the face of the present settings. */
async function update() {
  wanted = true;
  if (busy || !sides.first?.face || !sides.second?.face) return;
  busy = true;
  await attempt(async () => {
    while (wanted) {
      wanted = false;
      const answer = await post("vertices", mixture());
      result.setVertices(new Float32Array(await answer.arrayBuffer()));
      find("#name").textContent = nameOfResult();
      updates++;
    }
  });
  busy = false;
  if (wanted) update();
}

function nameOfResult() {
  const [one, other] = [sides.first.face.name, sides.second.face.name];
  return one === other ? one : `${one}__${other}`;
}

/** Settings that differ from the defaults, for file names. */
function settings() {
  const { identity, expression, strength } = mixing, found = [];
  if (identity.value !== identity.start) found.push(`id${Math.round(100 * identity.value)}`);
  if (expression.value !== expression.start) found.push(`exp${Math.round(100 * expression.value)}`);
  if (strength.value !== strength.start) found.push(`x${strength.value}`);
  if (Object.values(moves).flat().some((slider) => slider.value)) found.push("moved");
  return found;
}

async function download(suffix) {
  const name = nameOfFile(suffix !== ".npy"), answer = await post(`file?suffix=${suffix}`, mixture());
  save(await answer.blob(), name + suffix);
}

/** Save the result as it is drawn: PNG with a transparent background. */
async function picture() {
  const canvas = find("canvas#mixed");
  if (!canvas) throw new Error("there is no picture without WebGL 2");
  const name = nameOfFile(true), degrees = result.pose.slice(0, 2).map(Math.round);
  const view = degrees.some(Boolean) ? `_view${degrees.join("_")}` : "";
  await new Promise(requestAnimationFrame);  // a change of this moment is drawn before
  const content = await new Promise((done) => canvas.toBlob(done, "image/png"));
  if (!content) throw new Error("the browser could not make a picture");
  save(content, `${name}${view}.png`);
}

/** Name of a file of the result without suffix. */
function nameOfFile(ofPart) {
  const part = find("[name=part]:checked").value;
  return [nameOfResult(), ...settings(), ...(ofPart && part !== "full" ? [part] : [])].join("_");
}

function save(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name.replace(/[\\/:*?"<>|]+/g, "_");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);  // after it has been saved
  tell(`${link.download} is downloaded`);
}

// Faces A and B

class Side {
  constructor(id, letter) {
    this.element = find("#side").content.cloneNode(true).firstElementChild;
    this.element.id = id;
    find(".badge", this.element).textContent = letter;
    find(".inputs").append(this.element);
    const canvas = find("canvas", this.element), file = find(".file", this.element);
    this.choice = find(".choice", this.element);
    for (const named of [canvas, this.choice]) named.setAttribute("aria-label", `Face ${letter}`);
    file.setAttribute("aria-label", `Open files, the first as face ${letter}`);
    file.accept = model.suffixes.join(",");
    this.viewer = makeViewer(canvas);
    this.check = find(".error", this.element);
    this.turn = 0;  // number of the latest choice; earlier ones that load late are dropped
    this.choice.addEventListener("change", () => this.choose(this.choice.value));
    this.check.addEventListener("change", showErrors);
    file.addEventListener("change", (event) => {
      if (event.target.files.length) this.open([...event.target.files]);
      event.target.value = "";  // so that the same file can be opened again
    });
    find(".bar", this.element).style.background = gradient(model.colormap);
  }

  choose(key) {
    const turn = ++this.turn;
    this.choice.value = key;
    return attempt(async () => {
      try {
        const face = await faces.get(key).load();
        if (turn !== this.turn) return;
        this.take(face, key);
        tellWarnings();
      } finally {
        if (turn === this.turn) this.choice.value = this.key;  // the former choice where this one failed
      }
    });
  }

  /** Encode files; this side shows the first valid one, and all can be chosen. */
  open(files) {
    const turn = ++this.turn, refused = [];
    let taken = false;
    return attempt(async () => {
      for (const file of files) {
        tell(`encoding ${file.name}…`);
        try {
          const answer = await post(`encode?name=${encodeURIComponent(file.name)}`, file);
          const face = decoded(await answer.json()), key = `file${++opened}`;
          offer(key, unusedLabel(face.name, file.name), () => face);
          if (taken || turn !== this.turn) continue;
          taken = true;
          this.choice.value = key;
          this.take(face, key);
        } catch (error) {
          refused.push(error.message);
        }
      }
      if (refused.length) throw new Error(refused.join("; "));
      const names = files.map((file) => file.name).join(", ");
      tellWarnings(`${names} ${files.length > 1 ? "are" : "is"} encoded`);
    });
  }

  take(face, key) {
    this.face = face;
    this.key = key;
    this.viewer.setVertices(face.vertices);
    showErrors();
    update();
  }

  /** Color the face by the model's reconstruction error, if checked. */
  showError(high) {
    const { error } = this.face, words = find(".numbers", this.element);
    this.check.disabled = !error;
    const shown = Boolean(error) && this.check.checked;
    this.viewer.setValues(shown ? error : null, 0, high);
    find(".scale", this.element).hidden = !shown;
    find(".high", this.element).textContent = `${high} mm or more`;
    words.textContent = error ? `mean ${mm(mean(error))}, max ${mm(highest(error))} mm` : "latents: no mesh to compare with";
  }
}

/** Show the warnings of the two faces, or else another notice. */
function tellWarnings(otherwise = "") {
  const warnings = Object.values(sides).map((side) => side.face?.warning).filter(Boolean);
  if (warnings.length) tell(`warning: ${[...new Set(warnings)].join("; ")}`, true);
  else tell(otherwise);
}

const highest = (values) => values.reduce((high, value) => Math.max(high, value), 0);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const mm = (value) => value.toPrecision(value < 0.1 ? 1 : 2);

/** One color scale for both faces, up to the higher of their 95th percentiles. */
function showErrors() {
  const shown = Object.values(sides).filter((side) => side.face);
  const errors = shown.map((side) => side.face.error).filter(Boolean);
  const highs = errors.map((error) => error.slice().sort()[Math.floor(0.95 * error.length)]);
  const high = roundUp(Math.max(0.01, ...highs));
  for (const side of shown) side.showError(high);
}

/** The next round number, as at the ends of color scales in fd-render. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  const leading = model.round_ends.find((factor) => factor * power >= value * 0.999);
  return Number((leading * power).toPrecision(2));
}

function gradient(colormap) {
  const stops = [];
  for (let i = 0; i < 256; i += 15) stops.push(`rgb(${colormap.slice(3 * i, 3 * i + 3).join(" ")})`);
  return `linear-gradient(to right, ${stops.join(", ")})`;
}

const decoded = (said) => ({
  ...said, vertices: floats(said.vertices), error: said.error && floats(said.error),
});

/** Add a face to choose from, at the end or before that of another key. */
function offer(key, label, load, before = null) {
  faces.set(key, { label, load });
  for (const { choice } of Object.values(sides)) choice.add(new Option(label, key), optionOf(choice, before));
}

function withdraw(key) {
  faces.delete(key);
  for (const { choice } of Object.values(sides)) optionOf(choice, key)?.remove();
}

const optionOf = (choice, key) => [...choice.options].find((option) => option.value === key) ?? null;

/** A name, with the file and a number if others have it. */
function unusedLabel(name, file) {
  const labels = new Set([...faces.values()].map(({ label }) => label));
  let label = labels.has(name) ? `${name} (${file})` : name;
  for (let number = 2; labels.has(label); number++) label = `${name} (${file}) ${number}`;
  return label;
}

const fetchFace = async (key) => decoded(await (await ask(`face?n=${key}`)).json());

// Standard input

const NEWEST = "newest";
let news = { version: -1, count: 0 };  // of standard input, as last shown

/** Show the newest face of standard input and the choices, until it ends. */
async function follow() {
  while (news.state !== "ended" && news.state !== "broken") {
    const before = news;
    let shown = false;
    await attempt(async () => {
      await showNews(await (await ask(`news?seen=${before.version}`)).json());
      shown = true;
    });
    if (!shown) {
      news = before;  // so that the same news come again
      await pause(RETRY_MS);
    } else if (news.version === before.version) {
      await pause(PAUSE_MS);
    }
  }
}

async function showNews(said) {
  const grown = said.count > news.count;
  news = said;
  const kept = new Map(said.faces), before = String(model.stream);
  for (const [key, label] of kept) {
    if (!faces.has(key)) offer(key, label, () => fetchFace(key), before);
    else if (faces.get(key).label !== label) relabel(key, label);
  }
  for (const key of [...faces.keys()].filter((key) => key.startsWith("s") && !kept.has(key))) {
    const face = Object.values(sides).find((side) => side.key === key)?.face;
    if (face) faces.get(key).load = () => face;  // can be chosen as long as it is shown
    else withdraw(key);
  }
  tellStream();
  if (said.state === "open") {
    if (grown) await showNewest(NEWEST);
    return;
  }
  await showNewest(said.faces.at(-1)?.[0] ?? String(model.faces.length - 1));
  withdraw(NEWEST);
  if (said.state === "broken") tell("standard input broke off", true);
}

function relabel(key, label) {
  faces.get(key).label = label;
  for (const { choice } of Object.values(sides)) optionOf(choice, key).text = label;
}

/** Show a face wherever the newest one is to be shown. */
async function showNewest(key) {
  const followers = Object.values(sides).filter((side) => side.choice.value === NEWEST);
  const turns = followers.map((side) => side.turn);
  if (!followers.length) return;
  const face = await faces.get(key).load(), warned = followers[0].face?.warning;
  followers.forEach((side, n) => {
    if (side.turn !== turns[n]) return;  // another one has been chosen meanwhile
    if (key !== NEWEST) side.turn++;  // a newest one that is still loading would come after the last
    side.choice.value = key;
    side.take(face, key);
  });
  if (face.warning && face.warning !== warned) tellWarnings();
}

const loadNewest = () => fetchFace(news.count ? NEWEST : model.faces.length - 1);

function tellStream() {
  const { state, count, refused, message } = news, line = find("#stream");
  const some = `${count} face${count === 1 ? "" : "s"}`;
  const words = {
    open: count ? `live: ${some}` : "live: waiting for the first face",
    ended: `input has ended: ${some}`,
    broken: `input broke off after ${some}: ${message}`,
  };
  line.textContent = words[state]
    + (refused ? `, ${refused} not usable` : "") + (refused && state !== "broken" ? `: ${message}` : "");
  line.classList.toggle("bad", state === "broken");
  line.hidden = false;
}

// The page

/** A viewer that turns together with the others. */
function makeViewer(canvas) {
  const viewer = new FaceViewer(canvas, model.surface, { colormap: model.colormap });
  viewer.frame(model.frame);
  viewers.push(viewer);
  canvas.addEventListener("turn", () => {
    for (const other of viewers) if (other !== viewer) other.view(...viewer.pose);
  });
  return viewer;
}

function listenForFiles() {
  const isFile = (event) => event.dataTransfer?.types.includes("Files");
  const target = (event) => (event.target.closest?.("#second") ? sides.second : sides.first);
  const mark = (side) => {
    for (const each of Object.values(sides)) each.element.classList.toggle("target", each === side);
  };
  addEventListener("dragover", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    mark(target(event));
  });
  addEventListener("dragleave", (event) => event.relatedTarget || mark(null));
  addEventListener("drop", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    mark(null);
    target(event).open([...event.dataTransfer.files]);
  });
}

function swap() {
  const { first, second } = sides, [one, other] = [first.choice.value, second.choice.value];
  first.choose(other);
  second.choose(one);
}

async function start() {
  model = await (await ask("model")).json();
  model.surface = FaceViewer.surface(model.surface);
  model.colormap = bytes(model.colormap);
  const positions = floats(model.mean_face), sums = [0, 0, 0];
  positions.forEach((value, i) => (sums[i % 3] += (3 * value) / positions.length));
  model.frame = positions.map((value, i) => sums[i % 3] + ROOM * (value - sums[i % 3]));
  find("#model").textContent = `model ${model.model} · ${model.vertices} vertices`;
  makeMixture();
  for (const part of ["identity", "expression"]) makeDirections(part);
  result = makeViewer(find("#mixed"));
  sides.first = new Side("first", "A");
  sides.second = new Side("second", "B");
  model.faces.forEach((label, n) => offer(String(n), label, () => fetchFace(n)));
  for (const radio of document.querySelectorAll("[name=part]")) radio.addEventListener("change", update);
  for (const button of document.querySelectorAll("[data-suffix]")) {
    button.addEventListener("click", () => attempt(() => download(button.dataset.suffix)));
  }
  find("#picture").addEventListener("click", () => attempt(picture));
  find("#swap").addEventListener("click", swap);
  listenForFiles();
  if (model.stream !== null) await showNews(await (await ask("news")).json());
  const live = news.state === "open";
  // start with a neutral face and the last one before the mean face, which show two people
  const options = [...sides.first.choice.options].filter(({ value }) => !live || !value.startsWith("s"));
  const keys = options.map((option) => option.value);
  let first = keys[Math.max(0, options.findIndex((option) => /neutral/i.test(option.text)))];
  let second = keys.at(-2) ?? keys[0];
  if (live) {  // the newest face, or its expression on a face of a file
    offer(NEWEST, "Newest (live)", loadNewest, keys[0]);
    second = NEWEST;
    if (keys.length === 1) first = NEWEST;
  }
  await Promise.all([sides.first.choose(first), sides.second.choose(second)]);
  if (live) follow();
}

attempt(start);
