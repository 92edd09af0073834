// FaceViewer: an interactive 3D face on a canvas, by WebGL 2 without libraries.
//
//   const surface = FaceViewer.surface(json);           // of `page_surface`
//   const viewer = new FaceViewer(canvas, surface, { colormap });
//   viewer.frame(positions);                            // fit the camera: Float32Array (3V) in mm
//   viewer.setVertices(positions);                      // show a face
//   viewer.setValues(values, 0, 2);                     // color by Float32Array (V); null = skin
//   viewer.setSurface(another);                         // then set vertices and values anew
//   viewer.setWireframe(true);                          // draw the edges of the triangles
//
// x to the right, y up, the face towards +z, orthographic; lights and skin as in fd-render, fixed to
// the camera. The canvas needs a size by CSS; its resolution follows it. When the user turns or
// zooms, the canvas sends a "turn" event; `viewer.pose` has the new view.
"use strict";

const VERTEX_SHADER = `#version 300 es
in vec3 position;
in vec3 normal;
in float value;
in vec3 color;
in vec2 place;
uniform mat3 turn;
uniform vec3 centre;
uniform vec3 scale;
out vec3 direction;
out float amount;
out vec3 albedo;
out vec2 point;
void main() {
  point = place;
  direction = turn * normal;
  amount = value;
  albedo = color;
  gl_Position = vec4(turn * (position - centre) * scale, 1.0);
}`;

// Lights and colors are those of shading.py, in linear RGB. Triangles are lit from both sides, so that
// open edges leave no holes; insides are darker and cooler, and openings are lined from behind.
const FRAGMENT_SHADER = `#version 300 es
precision highp float;
in vec3 direction;
in float amount;
in vec3 albedo;
in vec2 point;
uniform sampler2D colormap;
uniform sampler2D image;
uniform int textured;  // 1: of the image; 2: all of one color
uniform vec3 tint;
uniform bool heat;
uniform bool lining;
uniform float edges;  // opacity of edges; 0 = triangles are drawn
uniform bool clockwise;  // triangles, seen from outside
out vec4 pixel;
const vec3 KEY = vec3(0.98, 0.93, 0.87), FILL = vec3(0.19, 0.21, 0.25), RIM = vec3(0.42, 0.43, 0.46);
const vec3 TO_KEY = vec3(-0.62, 0.58, 0.65), TO_FILL = vec3(0.85, 0.00, 0.50), TO_RIM = vec3(0.80, 0.35, -0.50);
const vec3 SKY = vec3(0.16, 0.17, 0.19), GROUND = vec3(0.09, 0.075, 0.07), WRAP = vec3(0.32, 0.17, 0.12);
const vec3 INSIDE = vec3(0.15, 0.16, 0.195), LINING = vec3(0.065, 0.048, 0.045);
const vec3 LINING_OF_VALUES = vec3(0.16, 0.16, 0.16), UNKNOWN = vec3(0.45, 0.46, 0.47);
const vec3 EDGES = vec3(0.02, 0.03, 0.05);
const float GLOSS = 0.06, SHADOW = 0.55;
vec3 skin(vec3 n) {
  vec3 key = normalize(TO_KEY), halfway = normalize(key + vec3(0.0, 0.0, 1.0));
  vec3 light = max((dot(n, key) + WRAP) / (1.0 + WRAP), 0.0) * KEY;
  light += max(dot(n, normalize(TO_FILL)), 0.0) * FILL;
  light += max(dot(n, normalize(TO_RIM)), 0.0) * RIM;
  light += mix(GROUND, SKY, (n.y + 1.0) / 2.0);
  vec3 own = textured == 1 ? texture(image, point).rgb * tint : textured == 2 ? tint : albedo;
  return own * light + GLOSS * pow(max(dot(n, halfway), 0.0), 20.0) * KEY;
}
void main() {
  vec3 n = normalize(direction) * (gl_FrontFacing ? 1.0 : -1.0);
  float aside = 1.0 - max(n.z, 0.0), matte = 1.0 - (1.0 - SHADOW) * aside * aside;
  vec3 linear;
  if (edges > 0.0) {
    linear = EDGES;
  } else if (lining) {
    linear = heat ? LINING_OF_VALUES : LINING;
  } else if (heat && amount < -0.5) {
    linear = UNKNOWN * matte;
  } else if (heat) {  // exactly the color of the bar where the surface faces the viewer, else darker
    float place = (clamp(amount, 0.0, 1.0) * 255.0 + 0.5) / 256.0;
    linear = texture(colormap, vec2(place, 0.5)).rgb * matte;
  } else {
    linear = gl_FrontFacing == clockwise ? INSIDE * matte : skin(n);
  }
  linear = clamp(linear, 0.0, 1.0);
  vec3 curved = 1.055 * pow(linear, vec3(1.0 / 2.4)) - 0.055;
  pixel = vec4(mix(curved, 12.92 * linear, lessThanEqual(linear, vec3(0.0031308))), edges > 0.0 ? edges : 1.0);
}`;

const SKIN = [0.70, 0.53, 0.44];
const DEPTH = 0.25;  // of linings, as in openings.py
const CLEAR_EDGE = 12;  // pixels of an edge that is drawn opaque
const MOST_PIXELS = 4096;  // a side of a texture, which every graphics card takes
const MARGIN = 0.06;  // share of the larger side of the face, as in fd-render
const FURTHEST_PITCH = 90, NEAREST = 12, FARTHEST = 0.4;
const DEGREES_PER_PIXEL = 0.5, DEGREES_PER_KEY = 7.5, ZOOM_PER_KEY = 1.15;
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Lowest and highest corner of the first `length` coordinates. */
function boundingBox(positions, length) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (let i = 0; i < length; i++) {
    const axis = i % 3;
    if (positions[i] < low[axis]) low[axis] = positions[i];
    if (positions[i] > high[axis]) high[axis] = positions[i];
  }
  return { low, high };
}

/** An image at its size, or scaled down to MOST_PIXELS; the colors of transparent pixels stay. */
async function decodedImage(blob) {
  const as = { premultiplyAlpha: "none" }, image = await createImageBitmap(blob, as);
  const larger = Math.max(image.width, image.height) / MOST_PIXELS;
  if (larger <= 1) return image;
  const [resizeWidth, resizeHeight] = [image.width, image.height].map((side) => Math.max(Math.round(side / larger), 1));
  return await createImageBitmap(image, { ...as, resizeWidth, resizeHeight, resizeQuality: "high" });
}

class FaceViewer {
  /** Surface as of `page_surface`: typed arrays of its triangles, lining and colors. */
  static surface(json) {
    const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    const IndexArray = json.index_bytes === 4 ? Uint32Array : Uint16Array;
    const indices = (text) => new IndexArray(bytes(text).buffer);
    return {
      triangles: indices(json.triangles),
      lining: indices(json.lining),
      colors: json.colors && bytes(json.colors),
    };
  }

  /**
   * The surface with a texture as of `page_texture`; a promise, for images are decoded. A material
   * whose image is broken has its color alone.
   */
  static async textured(surface, vertices, json) {
    const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    if (json.colors) return { ...surface, colors: bytes(json.colors) };
    const indices = (text) => new Uint32Array(bytes(text).buffer);
    const openings = new Set(surface.lining.filter((_, i) => i % 3 === 2)).size;
    const images = json.images.map(async ({ type, content }) => {
      try {
        return await decodedImage(new Blob([bytes(content)], { type }));
      } catch {
        return null;
      }
    });
    let first = 0;
    const groups = json.groups.map((group) => {
      const found = { ...group, first };
      first += 3 * group.count;
      return found;
    });
    // copies of vertices at seams come after the vertices of the lining
    const triangles = indices(json.triangles).map((index) => index + (index < vertices ? 0 : openings));
    const texture = {
      triangles, groups, copies: indices(json.copies), uv: new Float32Array(bytes(json.uv).buffer),
      images: await Promise.all(images),
    };
    return { ...surface, texture };
  }

  constructor(canvas, surface, { colormap }) {
    this.canvas = canvas;
    this.#take(surface);
    this.colormapColors = colormap;
    this.data = {};  // content of the buffers by name, to restore a lost context
    this.heat = this.wireframe = false;
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

  #take(surface) {
    const { triangles, lining, colors, texture = null } = surface;
    Object.assign(this, { surface, triangles, lining, colors, texture });
    this.copies = texture ? texture.copies : [];
    this.openings = new Set(lining.filter((_, i) => i % 3 === 2)).size;
  }

  /** Show another surface; its vertices are set next. */
  setSurface(surface) {
    this.#take(surface);
    this.heat = false;
    if (this.gl) this.#uploadSurface();
  }

  /** Show a face: Float32Array (3V) in mm; it is copied. */
  setVertices(positions) {
    const length = positions.length + 3 * (this.openings + this.copies.length);
    this.#array("position", length).set(positions);
    this.#smoothNormals(this.data.position, this.#array("normal", length));
    this.#placeLining(this.data.position, positions.length);
    this.#array("value", length / 3);
    for (const name in this.data) this.#copy(name);
    for (const name in this.data) this.#upload(name);
    this.redraw();
  }

  /** Color vertices by values (Float32Array V) from `low` to `high`, gray where NaN; null = skin. */
  setValues(values, low = 0, high = 1) {
    this.heat = Boolean(values);
    if (values) {
      const places = this.#array("value", values.length + this.openings + this.copies.length);
      const factor = 1 / Math.max(high - low, 1e-12);
      for (let i = 0; i < values.length; i++) {
        places[i] = Number.isNaN(values[i]) ? -1e6 : Math.max(values[i] - low, 0) * factor;
      }
      this.#copy("value");
      this.#upload("value");
    }
    this.redraw();
  }

  /** Draw the edges of the triangles, or leave them out. */
  setWireframe(shown) {
    this.wireframe = shown;
    if (this.gl && shown) this.#uploadEdges();
    this.redraw();
  }

  /** Fit the camera to a face; later faces are shown in the same window. */
  frame(positions = this.data.position) {
    if (!positions) return;
    const { low, high } = boundingBox(positions, positions.length);
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
    const names = ["turn", "centre", "scale", "heat", "lining", "edges", "clockwise"];
    for (const name of [...names, "image", "textured", "tint"]) {
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
    this.indexBuffer = gl.createBuffer();
    this.edgeBuffer = gl.createBuffer();
    this.texturedBuffer = gl.createBuffer();
    this.placeBuffer = gl.createBuffer();
    this.placePlace = gl.getAttribLocation(program, "place");
    gl.uniform1i(this.uniforms.image, 1);
    this.images = [];
    this.colorBuffer = gl.createBuffer();
    this.colorPlace = gl.getAttribLocation(program, "color");
    this.#uploadSurface();
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texImage2D(
      gl.TEXTURE_2D, 0, gl.SRGB8, 256, 1, 0, gl.RGB, gl.UNSIGNED_BYTE, this.colormapColors);
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) {
      gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    }
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.enable(gl.DEPTH_TEST);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ZERO, gl.ONE);
    gl.polygonOffset(1, 1);  // edges lie in front of their triangles
    gl.clearColor(0, 0, 0, 0);  // transparent, for light and dark pages
    for (const name in this.data) this.#upload(name);
  }

  #uploadSurface() {
    const gl = this.gl, indices = new this.triangles.constructor(this.triangles.length + this.lining.length);
    indices.set(this.triangles);
    indices.set(this.lining, this.triangles.length);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.indexBuffer);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
    if (this.colors) {
      const held = new Uint8Array(this.colors.length + 3 * (this.openings + this.copies.length));
      held.set(this.colors);
      gl.bindBuffer(gl.ARRAY_BUFFER, this.colorBuffer);
      gl.bufferData(gl.ARRAY_BUFFER, held, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(this.colorPlace);
      gl.vertexAttribPointer(this.colorPlace, 3, gl.UNSIGNED_BYTE, true, 0, 0);
    } else {
      gl.disableVertexAttribArray(this.colorPlace);
      gl.vertexAttrib3fv(this.colorPlace, SKIN);
    }
    this.#uploadTexture();
    if (this.wireframe) this.#uploadEdges();
  }

  #uploadTexture() {
    const gl = this.gl, texture = this.texture;
    for (const image of this.images ?? []) gl.deleteTexture(image);
    this.images = [];
    gl.disableVertexAttribArray(this.placePlace);
    if (!texture) return;
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.texturedBuffer);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, texture.triangles, gl.STATIC_DRAW);
    const count = texture.uv.length / 2 - texture.copies.length;
    const places = new Float32Array(texture.uv.length + 2 * this.openings);
    places.set(texture.uv.subarray(0, 2 * count));
    places.set(texture.uv.subarray(2 * count), 2 * (count + this.openings));
    gl.bindBuffer(gl.ARRAY_BUFFER, this.placeBuffer);
    gl.bufferData(gl.ARRAY_BUFFER, places, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(this.placePlace);
    gl.vertexAttribPointer(this.placePlace, 2, gl.FLOAT, false, 0, 0);
    gl.activeTexture(gl.TEXTURE1);
    this.images = texture.images.map((image) => {
      if (!image) return null;
      const made = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, made);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.SRGB8_ALPHA8, gl.RGBA, gl.UNSIGNED_BYTE, image);
      gl.generateMipmap(gl.TEXTURE_2D);
      return made;
    });
    gl.activeTexture(gl.TEXTURE0);
  }

  /** Draw the triangles of the texture's materials. */
  #drawTextured() {
    const gl = this.gl;
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.texturedBuffer);
    gl.activeTexture(gl.TEXTURE1);
    for (const { first, count, color, image } of this.texture.groups) {
      const held = this.images[image];
      gl.uniform1i(this.uniforms.textured, held ? 1 : 2);
      gl.uniform3fv(this.uniforms.tint, color);
      if (held) gl.bindTexture(gl.TEXTURE_2D, held);
      gl.drawElements(gl.TRIANGLES, 3 * count, gl.UNSIGNED_INT, 4 * first);
    }
    gl.activeTexture(gl.TEXTURE0);
    gl.uniform1i(this.uniforms.textured, 0);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.indexBuffer);
  }

  /** The edges of the triangles, each once. */
  #uploadEdges() {
    const gl = this.gl, t = this.triangles, known = new Set(), found = [];
    const many = t.reduce((most, index) => Math.max(most, index), 0) + 1;
    for (let i = 0; i < t.length; i++) {
      const a = t[i], b = t[i % 3 === 2 ? i - 2 : i + 1];
      const key = Math.min(a, b) * many + Math.max(a, b);
      if (known.has(key)) continue;
      known.add(key);
      found.push(a, b);
    }
    this.edges = new t.constructor(found);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.edgeBuffer);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, this.edges, gl.STATIC_DRAW);
  }

  /** The array of that name, reallocated only when its length changes. */
  #array(name, length) {
    if (this.data[name]?.length !== length) this.data[name] = new Float32Array(length);
    return this.data[name];
  }

  /** The data of copies of vertices at seams, which come last. */
  #copy(name) {
    const data = this.data[name], size = name === "value" ? 1 : 3;
    const from = data.length - size * this.copies.length;
    for (let i = 0; i < this.copies.length; i++) {
      for (let j = 0; j < size; j++) data[from + size * i + j] = data[size * this.copies[i] + j];
    }
  }

  #upload(name) {
    if (!this.gl) return;
    const gl = this.gl, held = this.buffers[name], data = this.data[name];
    gl.bindBuffer(gl.ARRAY_BUFFER, held.buffer);
    if (held.length === data.length) gl.bufferSubData(gl.ARRAY_BUFFER, 0, data);
    else gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
    held.length = data.length;
  }

  /**
   * Vertex normals: sums of the triangles' normals, weighted by area. The volume between the surface
   * and a point far behind it tells how triangles are wound.
   */
  #smoothNormals(p, n) {
    const t = this.triangles, { low, high } = boundingBox(p, p.length - 3 * this.openings);
    const behind = low.map((value, axis) => (value + high[axis]) / 2);
    behind[2] -= Math.max(...low.map((value, axis) => high[axis] - value));
    let volume = 0;
    n.fill(0);
    for (let i = 0; i < t.length; i += 3) {
      const a = 3 * t[i], b = 3 * t[i + 1], c = 3 * t[i + 2];
      const ux = p[b] - p[a], uy = p[b + 1] - p[a + 1], uz = p[b + 2] - p[a + 2];
      const vx = p[c] - p[a], vy = p[c + 1] - p[a + 1], vz = p[c + 2] - p[a + 2];
      const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
      n[a] += x; n[a + 1] += y; n[a + 2] += z;
      n[b] += x; n[b + 1] += y; n[b + 2] += z;
      n[c] += x; n[c + 1] += y; n[c + 2] += z;
      volume += (p[a] - behind[0]) * x + (p[a + 1] - behind[1]) * y + (p[a + 2] - behind[2]) * z;
    }
    this.clockwise = volume < 0;
  }

  /** Place the lining's vertices, which start at `from`, behind the openings, as openings.py does. */
  #placeLining(p, from) {
    const t = this.lining, sums = new Float64Array(3 * this.openings);
    const around = new Float64Array(this.openings), outwards = new Float64Array(3 * this.openings);
    const place = (i) => t[i + 2] - from / 3;
    for (let i = 0; i < t.length; i += 3) {
      const a = 3 * t[i], b = 3 * t[i + 1], k = place(i);
      const length = Math.hypot(p[b] - p[a], p[b + 1] - p[a + 1], p[b + 2] - p[a + 2]);
      around[k] += length;
      for (let j = 0; j < 3; j++) sums[3 * k + j] += ((p[a + j] + p[b + j]) / 2) * length;
    }
    for (let i = 0; i < sums.length; i++) p[from + i] = sums[i] / (around[Math.floor(i / 3)] || 1);
    for (let i = 0; i < t.length; i += 3) {
      const a = 3 * t[i], b = 3 * t[i + 1], c = 3 * t[i + 2], k = 3 * place(i);
      const ux = p[a] - p[c], uy = p[a + 1] - p[c + 1], uz = p[a + 2] - p[c + 2];
      const vx = p[b] - p[c], vy = p[b + 1] - p[c + 1], vz = p[b + 2] - p[c + 2];
      outwards[k] += (uy * vz - uz * vy) / 2;
      outwards[k + 1] += (uz * vx - ux * vz) / 2;
      outwards[k + 2] += (ux * vy - uy * vx) / 2;
    }
    for (let k = 0; k < sums.length; k += 3) {
      const area = Math.hypot(outwards[k], outwards[k + 1], outwards[k + 2]);
      for (let j = 0; j < 3; j++) p[from + k + j] -= area ? (DEPTH * outwards[k + j]) / Math.sqrt(area) : 0;
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
    gl.uniform1i(this.uniforms.clockwise, this.clockwise ? 1 : 0);
    const wide = this.triangles.BYTES_PER_ELEMENT === 4;
    const type = wide ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT;
    const skin = this.triangles.length;
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.indexBuffer);
    if (this.wireframe) gl.enable(gl.POLYGON_OFFSET_FILL);
    gl.uniform1f(this.uniforms.edges, 0);
    gl.uniform1i(this.uniforms.lining, 0);
    if (this.texture) this.#drawTextured();
    else gl.drawElements(gl.TRIANGLES, skin, type, 0);
    gl.uniform1i(this.uniforms.lining, 1);
    gl.drawElements(gl.TRIANGLES, this.lining.length, type, skin * this.triangles.BYTES_PER_ELEMENT);
    if (!this.wireframe) return;
    gl.disable(gl.POLYGON_OFFSET_FILL);
    gl.enable(gl.BLEND);
    // a mesh that is finer than the pixels is not painted over
    const pixels = (this.#edgeLength() * scale * width) / 2;
    gl.uniform1f(this.uniforms.edges, Math.min(Math.max(pixels / CLEAR_EDGE, 0.05), 1));
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.edgeBuffer);
    gl.drawElements(gl.LINES, this.edges.length, type, 0);
    gl.disable(gl.BLEND);
  }

  /** Mean length of the edges in mm, of some. */
  #edgeLength() {
    const p = this.data.position, step = 2 * Math.ceil(this.edges.length / 2000);
    let sum = 0, count = 0;
    for (let i = 0; i < this.edges.length; i += step) {
      const a = 3 * this.edges[i], b = 3 * this.edges[i + 1];
      sum += Math.hypot(p[a] - p[b], p[a + 1] - p[b + 1], p[a + 2] - p[b + 2]);
      count++;
    }
    return sum / Math.max(count, 1);
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
