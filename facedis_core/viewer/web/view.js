// The page of fd-view: settings of its controls are sent to the server, which returns a face. There
// is one such request at a time; the next one has the latest settings. Another request waits for
// news of standard input where that is shown.
"use strict";

const DIRECTIONS_SHOWN = 8, DIRECTIONS_ADDED = 8;
const MAX_STEP = 3;  // standard deviations
const RETRY_MS = 2000, PAUSE_MS = 200;  // after a request without an answer, and between two without news
const SCAN_COLOR = [58, 78, 105];  // linear RGB
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
const blendshapes = {};  // sliders of ARKit's, by name

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

/** Without the controls of a half that the model lacks. */
function hideLacking() {
  for (const part of ["identity", "expression"]) {
    if (model.directions[part].length) continue;
    find(`#${part}`).hidden = find("#parts").hidden = mixing[part].row.hidden = true;
    if (part === "expression") mixing.strength.row.hidden = true;
  }
}

/** The sliders of ARKit's blendshapes, in groups by the first word of their names. */
function makeBlendshapes() {
  const section = find("#arkit"), groups = {};
  section.hidden = !model.blendshapes.length;
  for (const name of model.blendshapes) {
    const group = name.match(/^[a-z]+/)[0];
    if (!groups[group]) {
      groups[group] = document.createElement("details");
      const title = document.createElement("summary"), sliders = document.createElement("div");
      title.textContent = capital(group);
      sliders.className = "sliders";
      groups[group].append(title, sliders);
      section.append(groups[group]);
    }
    const words = name.slice(group.length).replace(/([A-Z])/g, (letter) => ` ${letter.toLowerCase()}`).trim();
    const slider = new Slider(find(".sliders", groups[group]), name, capital(words), "", {
      low: 0, high: 1, step: 0.01, start: 0, show: percent,
    });
    slider.input.setAttribute("aria-label", name);
    slider.input.title = name;
    blendshapes[name] = slider;
  }
  find(".reset", section).addEventListener("click", () => reset(Object.values(blendshapes)));
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
    blendshapes: Object.fromEntries(shownBlendshapes().map(([name, slider]) => [name, slider.value])),
    part: find("[name=part]:checked").value,
    original: sides.first.face.key ?? sides.first.key,
  });
}

const shownBlendshapes = () => Object.entries(blendshapes).filter(([, slider]) => slider.value);

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
      const vertices = new Float32Array(await answer.arrayBuffer()), surface = surfaceOf(sides.first.face);
      if (result.surface !== surface) result.setSurface(surface);
      result.setVertices(vertices);
      find("#onto").disabled = !sides.first.face.original;
      find("#texture").parentElement.hidden = !Object.values(sides).some((side) => side.face.surface);
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
  if (shownBlendshapes().length) found.push("arkit");
  return found;
}

async function download(suffix) {
  const name = nameOfFile(suffix !== ".npy"), answer = await post(`file?suffix=${suffix}`, mixture());
  save(await answer.blob(), name + (suffix === "original" ? sides.first.face.original : suffix));
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
    file.accept = [...model.suffixes, ...model.beside].join(",");
    this.viewer = makeViewer(canvas);
    this.check = find(".error", this.element);
    this.distance = find(".distance", this.element);
    this.shown = find(".shown", this.element);
    this.shown.setAttribute("aria-label", `What is drawn of face ${letter} and its scan`);
    this.turn = 0;  // number of the latest choice; earlier ones that load late are dropped
    this.choice.addEventListener("change", () => this.choose(this.choice.value));
    for (const [one, other] of [[this.check, this.distance], [this.distance, this.check]]) {
      one.addEventListener("change", () => {
        if (one.checked) other.checked = false;
        showErrors();
      });
    }
    this.shown.addEventListener("change", () => {
      this.draw();
      showErrors();
    });
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

  /**
   * Encode files, or register them where they are raw scans; this side shows the first valid one, and
   * all can be chosen.
   */
  open(files) {
    const turn = ++this.turn, refused = [], done = [];
    let taken = false;
    return attempt(async () => {
      const isBeside = (file) => model.beside.some((suffix) => file.name.toLowerCase().endsWith(suffix));
      for (const file of files.filter(isBeside)) await post(`beside?name=${encodeURIComponent(file.name)}`, file);
      for (const file of files.filter((file) => !isBeside(file))) {
        tell(`encoding ${file.name}…`);
        try {
          const answer = await post(`encode?name=${encodeURIComponent(file.name)}`, file);
          const said = await answer.json();
          if (said.registering) tell("");
          const found = said.registering ? await this.register(said.registering, file.name) : said;
          if (!found) continue;
          const key = await this.offerFile(found, file.name);
          done.push(file.name);
          if (taken || turn !== this.turn) continue;
          taken = true;
          this.show(key);
        } catch (error) {
          refused.push(error.message);
        }
      }
      if (refused.length) throw new Error(refused.join("; "));
      if (done.length) tellWarnings(`${done.join(", ")} ${done.length > 1 ? "are" : "is"} encoded`);
    });
  }

  /** Offer a face as the server sent it; its key. */
  async offerFile(said, file) {
    const face = await decoded(said), key = `file${++opened}`;
    offer(key, unusedLabel(face.name, file), () => face);
    return key;
  }

  show(key) {
    this.choice.value = key;
    this.take(faces.get(key).load(), key);
  }

  /**
   * Follow the registration of a scan, with a button to cancel it. The face as the server sends it;
   * null where it was cancelled, or refused and may still be registered by a button.
   */
  async register(key, file) {
    const job = find("#job").content.cloneNode(true).firstElementChild;
    const words = find(".words", job), started = performance.now();
    const [cancel, anyway] = [find(".cancel", job), find(".anyway", job)];
    find(".jobs", this.element).append(job);
    let said = { version: -1, state: "running" }, cancelled = false;
    cancel.addEventListener("click", () => {
      cancelled = true;
      job.remove();
      if (said.state === "running") attempt(() => post(`cancel?n=${key}`));
    });
    const write = () => {
      const seconds = Math.round((performance.now() - started) / 1000);
      words.textContent = `registering ${file}: ${said.step ?? "reading"}, ${seconds} s`;
    };
    const clock = setInterval(write, 1000);
    let left = false;
    try {
      while (said.state === "running" && !cancelled) {
        write();
        said = await (await ask(`scan?n=${key}&seen=${said.version}`)).json();
      }
      left = said.state === "refused" && said.can_force && !cancelled;
    } finally {
      clearInterval(clock);
      if (!left) job.remove();
    }
    if (cancelled || said.state === "cancelled") return null;
    if (said.state === "done") return said.face;
    if (!left) throw new Error(said.message);
    words.textContent = said.message;
    job.classList.add("refused");
    cancel.textContent = "Dismiss";
    anyway.hidden = false;
    anyway.addEventListener("click", () => attempt(async () => {
      job.remove();
      const turn = ++this.turn;
      await post(`force?n=${key}`);
      const found = await this.register(key, file);
      if (!found) return;
      const face = await this.offerFile(found, file);
      if (turn === this.turn) this.show(face);
      tellWarnings();
    }));
    return null;
  }

  take(face, key) {
    this.face = face;
    this.key = key;
    for (const part of this.element.querySelectorAll(".of-scan")) part.hidden = !face.scan;
    if (face.scan) find(".report", this.element).textContent = describeScan(face.scan);
    this.draw();
    showErrors();
    update();
  }

  /** Draw the face, its scan or both. */
  draw() {
    const { face } = this, what = face.scan ? this.shown.value : "face";
    const surfaces = { face: surfaceOf(face), scan: face.scan?.surface, both: face.scan?.both };
    if (this.viewer.surface !== surfaces[what]) this.viewer.setSurface(surfaces[what]);
    this.viewer.frame(face.scan?.frame ?? model.frame);
    const vertices = { face: face.vertices, scan: face.scan?.vertices };
    this.viewer.setVertices(what === "both" ? joined(vertices.face, vertices.scan) : vertices[what]);
  }

  /** Color the face by the model's reconstruction error or its distance to the scan, if checked. */
  showError(highs) {
    const { error, scan } = this.face, words = find(".numbers", this.element);
    this.check.disabled = !error;
    const what = this.shown.value, far = Boolean(scan) && this.distance.checked;
    let values = far ? scan.distance : error && this.check.checked ? error : null;
    if (scan && what !== "face" && values) {  // a scan has no model error
      const ofScan = far ? scan.distances : new Float32Array(scan.distances.length).fill(NaN);
      values = what === "scan" ? (far ? ofScan : null) : joined(values, ofScan);
    }
    const high = far ? highs.distance : highs.error;
    this.viewer.setValues(values, 0, high);
    find(".scale", this.element).hidden = !values;
    find(".high", this.element).textContent = `${high} mm or more`;
    words.textContent = error ? `mean ${mm(mean(error))}, max ${mm(highest(error))} mm` : "latents: no mesh to compare with";
  }
}

/** The surface of a face, with its texture where it has one that is to be shown. */
function surfaceOf(face) {
  const shown = find("#texture").checked;
  return (shown && face.surface) || model.surface;
}

/** Two arrays of numbers, one after the other. */
function joined(one, other) {
  const all = new one.constructor(one.length + other.length);
  all.set(one);
  all.set(other, one.length);
  return all;
}

/** The scan of a face as the server sends it: its surface, and that of both. */
function decodedScan(said, vertices) {
  const surface = FaceViewer.surface(said.surface), found = floats(said.vertices);
  const offset = vertices.length / 3, count = found.length / 3;
  const own = Uint8Array.from({ length: 3 * count }, (_, i) => SCAN_COLOR[i % 3]);
  const skin = Uint8Array.from({ length: 3 * offset }, (_, i) => Math.round(255 * SKIN[i % 3]));
  const both = {
    triangles: joined(Uint32Array.from(model.surface.triangles), surface.triangles.map((i) => i + offset)),
    lining: new Uint32Array(),  // its vertices would follow those of the face
    colors: joined(model.surface.colors ?? skin, own),
  };
  const distance = floats(said.face_distances);
  return {
    ...said, vertices: found, distance, distances: floats(said.distances),
    surface: { ...surface, colors: own }, both, frame: compared(vertices, distance),
  };
}

/** The vertices whose distance is known, and their mirror images: a window on the face. */
function compared(vertices, distance) {
  const positions = [];
  distance.forEach((value, v) => {
    const [x, y, z] = vertices.subarray(3 * v, 3 * v + 3);
    if (!Number.isNaN(value)) positions.push(x, y, z, -x, y, z);
  });
  return positions.length ? Float32Array.from(positions) : model.frame;
}

/** What the registration says of itself, in words. */
function describeScan(scan) {
  const lines = [
    `in ${scan.unit}; the scan shows ${percent(scan.coverage)} of the face that it could`,
    `face to scan ${mm(scan.residual_mm)} mm, scan to face ${mm(scan.scan_residual_mm)} mm`,
    scan.margin_mm === null ? "no other pose fits" : `the next pose fits ${mm(scan.margin_mm)} mm worse`,
  ];
  return lines.join("; ") + (scan.problem ? `. Doubtful: ${scan.problem}` : "");
}

/** Show the warnings of the two faces, or else another notice. */
function tellWarnings(otherwise = "") {
  const warnings = Object.values(sides).map((side) => side.face?.warning).filter(Boolean);
  if (warnings.length) tell(`warning: ${[...new Set(warnings)].join("; ")}`, true);
  else tell(otherwise);
}

const highest = (values) => values.reduce((high, value) => Math.max(high, value), 0);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const mm = (value) => (value === null ? "?" : value.toPrecision(value < 0.1 ? 1 : 2));

/** One color scale for both faces, up to the higher of their 95th percentiles; one for distances. */
function showErrors() {
  const shown = Object.values(sides).filter((side) => side.face);
  const high = (arrays) => {
    const known = arrays.filter(Boolean).map((values) => values.filter((value) => !Number.isNaN(value)).sort());
    return roundUp(Math.max(0.01, ...known.map((values) => values[Math.floor(0.95 * values.length)] ?? 0)));
  };
  const highs = {
    error: high(shown.map((side) => side.face.error)),
    distance: high(shown.map((side) => side.face.scan?.distance)),
  };
  for (const side of shown) side.showError(highs);
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

async function decoded(said) {
  const vertices = floats(said.vertices);
  const surface = said.texture && await FaceViewer.textured(model.surface, vertices.length / 3, said.texture);
  return {
    ...said, vertices, surface: surface || null, error: said.error && floats(said.error),
    scan: said.scan && decodedScan(said.scan, vertices),
  };
}

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

const fetchFace = async (key) => await decoded(await (await ask(`face?n=${key}`)).json());

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
  hideLacking();
  makeBlendshapes();
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
  find("#texture").addEventListener("change", () => {
    for (const side of Object.values(sides)) side.draw();
    showErrors();
    update();
  });
  const wireframe = find("#wireframe");
  wireframe.addEventListener("change", () => {
    for (const viewer of viewers) viewer.setWireframe(wireframe.checked);
  });
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
