// 3D viewer of a report: faces beside their truths, and an interpolation between two faces.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const byId = (id) => document.getElementById(id);

  const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const known = new Map();

  /** Vertices (Float32Array 3V, mm) from `QuantizedVertices.as_json`, unpacked on first use. */
  function unpacked(packed) {
    let vertices = known.get(packed);
    if (!vertices) {
      const levels = new Uint16Array(bytes(packed.levels).buffer);
      vertices = new Float32Array(levels.length);
      for (let i = 0; i < levels.length; i++) {
        vertices[i] = packed.low[i % 3] + packed.step[i % 3] * levels[i];
      }
      known.set(packed, vertices);
    }
    return vertices;
  }

  /** (1 - share) * one + share * other. */
  function blend(one, other, share) {
    return one.map((value, i) => value + share * (other[i] - value));
  }

  /** The shape at `share` of a path of straight segments. */
  function along(steps, share) {
    const place = share * (steps.length - 1);
    const below = Math.min(Math.floor(place), steps.length - 2);
    return blend(unpacked(steps[below]), unpacked(steps[below + 1]), place - below);
  }

  /** Distance of each vertex to the true one, mm. */
  function distances(vertices, truth) {
    const found = new Float32Array(vertices.length / 3);
    for (let v = 0, i = 0; v < found.length; v++, i += 3) {
      found[v] = Math.hypot(
        vertices[i] - truth[i], vertices[i + 1] - truth[i + 1], vertices[i + 2] - truth[i + 2]);
    }
    return found;
  }

  const surface = FaceViewer.surface(data.surface);
  const textured = [];  // the surface with each texture, as soon as its images are decoded
  const colormap = bytes(data.colormap);
  const views = ["truth", "predicted"].map((id) => new FaceViewer(byId(id), surface, { colormap }));
  const [truthView, predictedView] = views;
  views.forEach((view, i) => view.canvas.addEventListener("turn", () => views[1 - i].view(...view.pose)));

  function option(words, value) {
    const found = document.createElement("option");
    found.textContent = words;
    found.value = value;
    return found;
  }
  data.models.forEach((label, i) => byId("model").append(option(label, i)));
  for (const group of data.groups) {
    const held = document.createElement("optgroup");
    held.label = group.label;
    for (const item of group.items) {
      held.append(option(`${item.label} (${item.error.toFixed(2)} mm)`, item.face));
    }
    byId("face").append(held);
  }
  const [low, high] = data.range;
  byId("low").textContent = `${low}`;
  byId("high").textContent = `${high} mm and more`;
  const bar = byId("bar").getContext("2d"), row = bar.createImageData(256, 1);
  for (let i = 0; i < 256; i++) row.data.set([...colormap.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  bar.putImageData(row, 0, 0);
  byId("interpolation-choice").hidden = !data.interpolation;
  if (data.interpolation) [byId("end-a").textContent, byId("end-b").textContent] = data.interpolation.ends;

  /** The surface with a texture, if there is one that is to be shown. */
  const surfaceWith = (texture) => (byId("texture").checked && textured[texture]) || surface;

  /** Show vertices by a view with a texture. */
  function showVertices(view, vertices, texture) {
    const wanted = surfaceWith(texture);
    if (view.surface !== wanted) view.setSurface(wanted);
    view.setVertices(vertices);
  }

  function showFace(model) {
    const face = data.faces[Number(byId("face").value)], predicted = face.predicted[model];
    const {identity, full} = predicted, heat = byId("show-error").checked;
    byId("part").disabled = !identity || !full;  // a model of one half
    const share = !identity ? 1 : !full ? 0 : Number(byId("part").value);
    byId("part").value = share;
    const shown = blend(unpacked(identity || full), unpacked(full || identity), share);
    // without a neutral face, only the full face has a truth
    const truth = face.neutral
      ? blend(unpacked(face.neutral), unpacked(face.truth), share)
      : share === 1 ? unpacked(face.truth) : null;
    showVertices(predictedView, shown, face.texture);
    showVertices(truthView, truth || unpacked(face.truth), face.texture);
    const errors = truth && distances(shown, truth);
    predictedView.setValues(heat && errors ? errors : null, low, high);
    byId("scale").hidden = !heat;
    byId("numbers").textContent = errors
      ? `error: mean ${(errors.reduce((a, b) => a + b) / errors.length).toFixed(2)} mm, ` +
        `max ${errors.reduce((a, b) => Math.max(a, b)).toFixed(2)} mm`
      : "no true neutral face to compare with";
  }

  function showInterpolation(model) {
    const path = data.interpolation.models[model];
    const identity = along(path.identity, Number(byId("interpolation-identity").value));
    const offset = along(path.expression, Number(byId("interpolation-expression").value));
    showVertices(predictedView, identity.map((value, i) => value + offset[i]), data.interpolation.texture);
    predictedView.setValues(null);
    byId("max-error").textContent =
      `By ${data.models[model]}, blended between ${path.identity.length} × ${path.expression.length} ` +
      `decoded shapes, at most ${path.max_error.toFixed(2)} mm from the decoder.`;
  }

  function show() {
    const model = Number(byId("model").value);
    const faces = document.querySelector("input[name=show]:checked").value === "faces";
    byId("faces-controls").hidden = !faces;
    byId("interpolation-controls").hidden = faces;
    byId("truth-view").hidden = !faces;
    byId("predicted-caption").textContent = faces ? "synthesis" : "interpolation";
    (faces ? showFace : showInterpolation)(model);
  }

  // one window for all shapes, so that their sizes can be compared
  const shapes = data.faces.flatMap((face) => [face.truth, face.neutral || face.truth]).map(unpacked);
  for (const path of data.interpolation ? data.interpolation.models : []) {
    for (const end of [0, 1]) {
      const offset = along(path.expression, end);
      shapes.push(along(path.identity, end).map((value, i) => value + offset[i]));
    }
  }
  const all = new Float32Array(shapes.length * shapes[0].length);
  shapes.forEach((shape, i) => all.set(shape, i * shape.length));
  views.forEach((view) => view.frame(all));
  byId("texture-choice").hidden = !data.textures.length;
  data.textures.forEach(async (texture, i) => {
    textured[i] = await FaceViewer.textured(surface, shapes[0].length / 3, texture);
    show();
  });
  byId("viewer").addEventListener("input", show);
  byId("wireframe").addEventListener("change", () => {
    views.forEach((view) => view.setWireframe(byId("wireframe").checked));
  });
  byId("front").addEventListener("click", () => views.forEach((view) => view.reset()));
  show();
})();
