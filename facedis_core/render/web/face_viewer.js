// FaceViewer: an interactive 3D face on a canvas, by WebGL 2 without libraries.
//
//   const viewer = new FaceViewer(canvas, triangles, { colormap });   // Uint16Array or Uint32Array (3F)
//   viewer.frame(positions);                            // fit the camera: Float32Array (3V) in mm
//   viewer.setVertices(positions);                      // show a face
//   viewer.setValues(values, 0, 2);                     // color by Float32Array (V); null = skin
//
// x to the right, y up, the face towards +z, orthographic; lights and skin as in fd-render, fixed to
// the camera. The canvas needs a size by CSS; its resolution follows it. When the user turns or
// zooms, the canvas sends a "turn" event; `viewer.pose` has the new view.
"use strict";

const VERTEX_SHADER = `#version 300 es
in vec3 position;
in vec3 normal;
in float value;
uniform mat3 turn;
uniform vec3 centre;
uniform vec3 scale;
out vec3 direction;
out float amount;
void main() {
  direction = turn * normal;
  amount = value;
  gl_Position = vec4(turn * (position - centre) * scale, 1.0);
}`;

// Lights, skin and gloss are those of shading.py, in linear RGB. Triangles are lit from both sides,
// so that open edges leave no holes.
const FRAGMENT_SHADER = `#version 300 es
precision highp float;
in vec3 direction;
in float amount;
uniform sampler2D colormap;
uniform bool heat;
out vec4 pixel;
const vec3 KEY = vec3(1.05, 1.00, 0.94), FILL = vec3(0.21, 0.22, 0.26);
const vec3 SKY = vec3(0.17, 0.18, 0.20), GROUND = vec3(0.07, 0.06, 0.06);
const vec3 SKIN = vec3(0.66, 0.60, 0.55);
void add(vec3 n, vec3 towards, vec3 color, inout vec3 light, inout vec3 gloss) {
  vec3 source = normalize(towards), halfway = normalize(source + vec3(0.0, 0.0, 1.0));
  light += max(dot(n, source), 0.0) * color;
  gloss += 0.07 * pow(max(dot(n, halfway), 0.0), 20.0) * color;
}
void main() {
  vec3 n = normalize(direction) * (gl_FrontFacing ? 1.0 : -1.0);
  vec3 light = mix(GROUND, SKY, (n.y + 1.0) / 2.0), gloss = vec3(0.0);
  add(n, vec3(-0.60, 0.70, 0.65), KEY, light, gloss);
  add(n, vec3(0.90, -0.05, 0.45), FILL, light, gloss);
  vec3 linear = SKIN * light + gloss;
  if (heat) {  // exactly the color of the bar where the surface faces the viewer, else darker
    float place = (clamp(amount, 0.0, 1.0) * 255.0 + 0.5) / 256.0;
    linear = texture(colormap, vec2(place, 0.5)).rgb * mix(0.55, 1.0, max(n.z, 0.0));
  }
  linear = clamp(linear, 0.0, 1.0);
  vec3 curved = 1.055 * pow(linear, vec3(1.0 / 2.4)) - 0.055;
  pixel = vec4(mix(curved, 12.92 * linear, lessThanEqual(linear, vec3(0.0031308))), 1.0);
}`;

const MARGIN = 0.06;  // share of the larger side of the face, as in fd-render
const FURTHEST_PITCH = 90, NEAREST = 12, FARTHEST = 0.4;
const DEGREES_PER_PIXEL = 0.5, DEGREES_PER_KEY = 7.5, ZOOM_PER_KEY = 1.15;
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

class FaceViewer {
  constructor(canvas, triangles, { colormap }) {
    this.canvas = canvas;
    this.triangles = triangles;
    this.colormapColors = colormap;
    this.data = {};  // content of the buffers by name, to restore a lost context
    this.heat = false;
    this.centre = [0, 0, 0];
    this.halfWidth = this.halfHeight = this.reach = 1;
    this.yaw = this.pitch = 0;
    this.zoom = 1;
    this.pointers = new Map();
    this.drawing = 0;
    // preserved for "Save image as" of browsers
    this.gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
    if (!this.gl) {
      const words = document.createElement("p");
      words.textContent = "This browser cannot show faces in 3D: WebGL 2 is missing or turned off.";
      words.className = canvas.className;
      canvas.replaceWith(words);
      return;
    }
    this.#build();
    this.#listen();
  }

  /** Show a face: Float32Array (3V) in mm; it is copied. */
  setVertices(positions) {
    this.#array("position", positions.length).set(positions);
    this.#smoothNormals(this.data.position, this.#array("normal", positions.length));
    this.#array("value", positions.length / 3);
    for (const name in this.data) this.#upload(name);
    this.redraw();
  }

  /** Color vertices by values (Float32Array V) from `low` to `high`; null = skin. */
  setValues(values, low = 0, high = 1) {
    this.heat = Boolean(values);
    if (values) {
      const places = this.#array("value", values.length);
      const factor = 1 / Math.max(high - low, 1e-12);
      for (let i = 0; i < values.length; i++) places[i] = (values[i] - low) * factor;
      this.#upload("value");
    }
    this.redraw();
  }

  /** Fit the camera to a face; later faces are shown in the same window. */
  frame(positions = this.data.position) {
    if (!positions) return;
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    for (let i = 0; i < positions.length; i++) {
      const axis = i % 3;
      if (positions[i] < low[axis]) low[axis] = positions[i];
      if (positions[i] > high[axis]) high[axis] = positions[i];
    }
    const size = low.map((value, axis) => high[axis] - value);
    const margin = MARGIN * Math.max(size[0], size[1], 1e-6);
    this.centre = low.map((value, axis) => (value + high[axis]) / 2);
    this.halfWidth = size[0] / 2 + margin;
    this.halfHeight = size[1] / 2 + margin;
    this.reach = 2 * Math.hypot(...size) + margin;  // depth range in front and behind, in any view
    this.redraw();
  }

  /** Set the view: degrees to the face's left and from above, and the zoom. */
  view(yaw, pitch, zoom = this.zoom) {
    this.yaw = yaw % 360;
    this.pitch = Math.min(Math.max(pitch, -FURTHEST_PITCH), FURTHEST_PITCH);
    this.zoom = Math.min(Math.max(zoom, FARTHEST), NEAREST);
    this.redraw();
  }

  /** Back to the front. */
  reset() {
    this.view(0, 0, 1);
  }

  /** The arguments of `view` for the present view. */
  get pose() {
    return [this.yaw, this.pitch, this.zoom];
  }

  /** Draw in the next animation frame; several calls draw once. */
  redraw() {
    if (this.gl && !this.drawing) this.drawing = requestAnimationFrame(() => this.#draw());
  }

  #build() {
    const gl = this.gl, program = gl.createProgram();
    const sources = { VERTEX_SHADER, FRAGMENT_SHADER };
    for (const kind in sources) {
      const shader = gl.createShader(gl[kind]);
      gl.shaderSource(shader, sources[kind]);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error(`the face's shaders do not link: ${gl.getProgramInfoLog(program)}`);
    }
    gl.useProgram(program);
    this.uniforms = {};
    for (const name of ["turn", "centre", "scale", "heat"]) {
      this.uniforms[name] = gl.getUniformLocation(program, name);
    }
    this.buffers = {};
    for (const [name, size] of [["position", 3], ["normal", 3], ["value", 1]]) {
      const place = gl.getAttribLocation(program, name);
      this.buffers[name] = { buffer: gl.createBuffer(), length: -1 };
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name].buffer);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, size, gl.FLOAT, false, 0, 0);
    }
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, this.triangles, gl.STATIC_DRAW);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texImage2D(
      gl.TEXTURE_2D, 0, gl.SRGB8, 256, 1, 0, gl.RGB, gl.UNSIGNED_BYTE, this.colormapColors);
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) {
      gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    }
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.enable(gl.DEPTH_TEST);
    gl.clearColor(0, 0, 0, 0);  // transparent, for light and dark pages
    for (const name in this.data) this.#upload(name);
  }

  /** The array of that name, reallocated only when its length changes. */
  #array(name, length) {
    if (this.data[name]?.length !== length) this.data[name] = new Float32Array(length);
    return this.data[name];
  }

  #upload(name) {
    if (!this.gl) return;
    const gl = this.gl, held = this.buffers[name], data = this.data[name];
    gl.bindBuffer(gl.ARRAY_BUFFER, held.buffer);
    if (held.length === data.length) gl.bufferSubData(gl.ARRAY_BUFFER, 0, data);
    else gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
    held.length = data.length;
  }

  /** Vertex normals: sums of the triangles' normals, weighted by area. */
  #smoothNormals(p, n) {
    const t = this.triangles;
    n.fill(0);
    for (let i = 0; i < t.length; i += 3) {
      const a = 3 * t[i], b = 3 * t[i + 1], c = 3 * t[i + 2];
      const ux = p[b] - p[a], uy = p[b + 1] - p[a + 1], uz = p[b + 2] - p[a + 2];
      const vx = p[c] - p[a], vy = p[c + 1] - p[a + 1], vz = p[c + 2] - p[a + 2];
      const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
      n[a] += x; n[a + 1] += y; n[a + 2] += z;
      n[b] += x; n[b + 1] += y; n[b + 2] += z;
      n[c] += x; n[c + 1] += y; n[c + 2] += z;
    }
  }

  #draw() {
    const gl = this.gl;
    this.drawing = 0;
    if (!this.data.position || gl.isContextLost()) return;
    const canvas = this.canvas;
    const width = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
    const height = Math.max(1, Math.round(canvas.clientHeight * devicePixelRatio));
    if (canvas.width !== width || canvas.height !== height) {
      [canvas.width, canvas.height] = [width, height];
    }
    gl.viewport(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const across = Math.max(this.halfWidth, (this.halfHeight * width) / height);
    const scale = this.zoom / across;
    const depth = -1 / this.reach;  // nearer points have a smaller depth
    gl.uniform3f(this.uniforms.scale, scale, (scale * width) / height, depth);
    gl.uniform3fv(this.uniforms.centre, this.centre);
    gl.uniform1i(this.uniforms.heat, this.heat ? 1 : 0);
    gl.uniformMatrix3fv(this.uniforms.turn, false, this.#turn());
    const wide = this.triangles.BYTES_PER_ELEMENT === 4;
    gl.drawElements(
      gl.TRIANGLES, this.triangles.length, wide ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT, 0);
  }

  /** Rotation by yaw, then pitch, in column-major order. */
  #turn() {
    const yaw = (this.yaw * Math.PI) / 180, pitch = (this.pitch * Math.PI) / 180;
    const [c, s, d, u] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    return [c, u * s, -d * s, 0, d, u, s, -u * c, d * c];
  }

  #listen() {
    const canvas = this.canvas;
    canvas.tabIndex = Math.max(canvas.tabIndex, 0);
    canvas.style.touchAction = "pan-y";  // a finger turns the face sideways, and scrolls the page up and down
    canvas.setAttribute("role", "img");
    if (!canvas.hasAttribute("aria-label")) canvas.setAttribute("aria-label", "A face in 3D");
    canvas.title ||= "Drag or arrow keys turn, wheel (after a click) or + and − zoom, double click or 0 resets";
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    canvas.addEventListener("pointermove", (event) => this.#drag(event));
    for (const ending of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(ending, (event) => this.pointers.delete(event.pointerId));
    }
    canvas.addEventListener("wheel", (event) => {
      const scrolls = document.scrollingElement.scrollHeight > innerHeight + 1;
      if (scrolls && !event.ctrlKey && document.activeElement !== canvas) return;  // the page scrolls
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode ? 30 : 1);
      this.#move(0, 0, Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.0015)));  // a pinch arrives as Ctrl + wheel
    }, { passive: false });
    canvas.addEventListener("dblclick", () => this.#front());
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.#build();
      this.redraw();
    });
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  #drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (other) {
      const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
      this.#move(0, 0, apart(now) / apart(before));
    } else {
      this.#move((now[0] - before[0]) * DEGREES_PER_PIXEL, (now[1] - before[1]) * DEGREES_PER_PIXEL);
    }
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;  // shortcuts of the browser
    const zoom = { "+": ZOOM_PER_KEY, "=": ZOOM_PER_KEY, "-": 1 / ZOOM_PER_KEY }[event.key];
    const way = KEYS[event.key];
    if (way) this.#move(way[0] * DEGREES_PER_KEY, way[1] * DEGREES_PER_KEY);
    else if (zoom) this.#move(0, 0, zoom);
    else if (event.key === "0") this.#front();
    else return;
    event.preventDefault();
  }

  #front() {
    this.reset();
    this.#tell();
  }

  #move(yaw, pitch, zoom = 1) {
    this.view(this.yaw + yaw, this.pitch + pitch, this.zoom * zoom);
    this.#tell();
  }

  #tell() {
    this.canvas.dispatchEvent(new CustomEvent("turn"));
  }
}
