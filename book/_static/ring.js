/* The interactive figure of the first page: three rings that one excites by clicking.

It takes the place of the picture in `figure#fig-ring` and needs nothing but this file and ring.css.
All that is shown follows from the inputs and the settings: a step is
    h[x] <- max(0, (1 - v) h[x] + v h[x + 1] + bias),  and an input adds 1 at site 0,
as in wrnn.WaveRNN with the start wrnn.init.shift_; the static bump is the same with v = 0. The linear
decoders are fitted here, by least squares on random sequences, for the settings that are shown. */
(() => {
  "use strict";
  const RINGS = 3;
  const STEPS = 32;
  const SEQUENCES = 400; // random ones, half to fit a decoder and half to judge it
  const DENSITY = 1 / 8; // of the inputs in a random sequence
  const RIDGE = 1e-3; // on the weights of a decoder, per sequence
  const TOLD = 0.9; // R² from which a decoder is said to tell an input

  /** One ring of `sites` units after each input of a sequence; Float64Array of the last state. */
  function state(inputs, { sites, velocity, bias }) {
    let h = new Float64Array(sites);
    for (const input of inputs) {
      const next = new Float64Array(sites);
      for (let x = 0; x < sites; x++) {
        const drive = x === 0 ? input : 0;
        const wave = (1 - velocity) * h[x] + velocity * h[(x + 1) % sites];
        next[x] = Math.max(0, wave + drive + bias);
      }
      h = next;
    }
    return h;
  }

  /** Numbers in [0, 1) that are the same at each visit (mulberry32). */
  function random(seed) {
    return () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  /** Solve A X = B in place, A (n, n) symmetric and positive, B (n, m), by Gauss elimination. */
  function solve(A, B) {
    const n = A.length;
    for (let i = 0; i < n; i++) {
      for (let j = i + 1; j < n; j++) {
        const factor = A[j][i] / A[i][i];
        if (factor === 0) continue;
        for (let k = i; k < n; k++) A[j][k] -= factor * A[i][k];
        for (let k = 0; k < B[0].length; k++) B[j][k] -= factor * B[i][k];
      }
    }
    for (let i = n - 1; i >= 0; i--) {
      for (let k = 0; k < B[0].length; k++) {
        for (let j = i + 1; j < n; j++) B[i][k] -= A[i][j] * B[j][k];
        B[i][k] /= A[i][i];
      }
    }
    return B;
  }

  /** Fit a linear decoder of every input of `steps` steps from the last state.
   *  Returns read(h) -> (steps,) and r2 (steps,) on other sequences; index = steps ago. */
  function decoder(steps, settings) {
    const draw = random(1);
    const sequences = Array.from({ length: SEQUENCES }, () =>
      Float64Array.from({ length: steps }, () => (draw() < DENSITY ? 1 : 0)),
    );
    const features = sequences.map((inputs) => [1, ...state(inputs, settings)]);
    const half = SEQUENCES / 2;
    const size = settings.sites + 1;
    const A = Array.from({ length: size }, (_, i) => {
      const row = new Float64Array(size);
      row[i] = i === 0 ? 0 : RIDGE * half;
      return row;
    });
    const B = Array.from({ length: size }, () => new Float64Array(steps));
    for (let s = 0; s < half; s++) {
      for (let i = 0; i < size; i++) {
        const value = features[s][i];
        if (value === 0) continue;
        for (let j = 0; j < size; j++) A[i][j] += value * features[s][j];
        for (let k = 0; k < steps; k++) B[i][k] += value * sequences[s][steps - 1 - k];
      }
    }
    const weights = solve(A, B); // (1 + sites, steps)
    const apply = (row) =>
      Array.from({ length: steps }, (_, k) =>
        row.reduce((sum, value, i) => sum + value * weights[i][k], 0),
      );
    const told = features.slice(half).map(apply);
    const r2 = Array.from({ length: steps }, (_, k) => {
      const truth = sequences.slice(half).map((inputs) => inputs[steps - 1 - k]);
      const mean = truth.reduce((sum, value) => sum + value, 0) / half;
      const spread = truth.reduce((sum, value) => sum + (value - mean) ** 2, 0);
      const error = truth.reduce((sum, value, s) => sum + (value - told[s][k]) ** 2, 0);
      return 1 - error / spread;
    });
    return { read: (h) => apply([1, ...h]), r2 };
  }

  /** Path of the piece of a ring that site `x` of `sites` takes; site 0 is at the top. */
  function arc(x, sites, inner, outer) {
    const turn = (x - 0.5) / sites;
    const point = (radius, t) => {
      const angle = 2 * Math.PI * t - Math.PI / 2;
      return `${(radius * Math.cos(angle)).toFixed(2)} ${(radius * Math.sin(angle)).toFixed(2)}`;
    };
    const end = turn + 1 / sites;
    return (
      `M${point(outer, turn)}A${outer} ${outer} 0 0 1 ${point(outer, end)}` +
      `L${point(inner, end)}A${inner} ${inner} 0 0 0 ${point(inner, turn)}Z`
    );
  }

  function drawRings(svg, states) {
    const sites = states[0].length;
    const rings = states.map((h, ring) => {
      const outer = 100 - 26 * ring;
      const pieces = Array.from(h, (value, x) => {
        const shade = Math.min(1, value).toFixed(3);
        return `<path d="${arc(x, sites, outer - 20, outer)}" fill-opacity="${shade}"/>`;
      });
      const name = `<text x="0" y="${-outer + 14}" class="ring-name">${ring + 1}</text>`;
      return `<g class="ring ring-${ring + 1}" data-excite="${ring}">${pieces.join("")}${name}</g>`;
    });
    svg.innerHTML = rings.join("");
  }

  /** Decoded values as shades, true inputs as dots, and below how well the decoder does. */
  function drawReading(svg, inputs, readings, r2) {
    const steps = r2.length;
    const cells = [];
    for (let ring = 0; ring < RINGS; ring++) {
      cells.push(`<text x="-3" y="${12 * ring + 9}" class="ring-row">${ring + 1}</text>`);
      for (let k = 0; k < STEPS; k++) {
        const [x, y] = [8 * k + 4, 12 * ring];
        const value = k < steps ? Math.max(0, Math.min(1, readings[ring][k])) : 0;
        cells.push(
          `<rect x="${x}" y="${y}" width="7" height="11" class="ring-${ring + 1}"` +
            ` fill-opacity="${value.toFixed(3)}"/>`,
        );
        if (k < steps && inputs[ring][steps - 1 - k]) {
          cells.push(`<circle cx="${x + 3.5}" cy="${y + 5.5}" r="2"/>`);
        }
      }
    }
    r2.forEach((value, k) => {
      const height = 24 * Math.max(0, value);
      cells.push(
        `<rect x="${8 * k + 4}" y="${(66 - height).toFixed(1)}" width="7"` +
          ` height="${height.toFixed(1)}" class="ring-sure"/>`,
      );
    });
    cells.push(
      `<path d="M4 66H${8 * STEPS + 4}" class="ring-axis"/><text x="-3" y="46" class="ring-row">1</text>`,
      `<text x="-3" y="67" class="ring-row">0</text>`,
    );
    for (const k of [0, 10, 20, 30]) {
      cells.push(`<text x="${8 * k + 7.5}" y="77" class="ring-tick">${k}</text>`);
    }
    svg.innerHTML = cells.join("");
  }

  function ago(k) {
    return k === 0 ? "just now" : `${k} step${k === 1 ? "" : "s"} ago`;
  }

  /** "ring 1, 5 steps ago; ring 2, just now", of values (RINGS, steps) that are at least a half. */
  function sayInputs(values) {
    const found = values.flatMap((row, ring) =>
      [...row.keys()].filter((k) => row[k] >= 0.5).map((k) => `ring ${ring + 1}, ${ago(k)}`),
    );
    return found.join("; ") || "none";
  }

  const CONTROLS = [
    ["step", "Step", 1, STEPS, 1],
    ["velocity", "Velocity (sites per step)", 0, 1, 0.05],
    ["sites", "Sites on a ring", 8, 48, 1],
    ["bias", "Bias of the rectifier", -0.2, 0.05, 0.01],
  ];
  const START = { step: 21, velocity: 1, sites: 40, bias: 0 };
  const PANELS = [
    ["wave", "Wave", "activity moves on"],
    ["bump", "Static bump", "activity stays"],
  ];

  const panel = ([key, title, line]) => `
    <section class="ring-panel" aria-label="${title}">
      <p class="ring-title"><strong>${title}</strong>: ${line}</p>
      <svg class="ring-view" data-view="${key}" viewBox="-102 -102 204 204" role="img"></svg>
      <p class="ring-legend">What a linear decoder reads, by steps ago (dots: the true inputs), and
        its R² below</p>
      <svg class="ring-reading" data-reading="${key}" viewBox="-12 -1 273 80" role="img"></svg>
      <p class="ring-told" data-told="${key}"></p>
    </section>`;
  const slider = ([key, label, min, max, by]) => `
    <label class="ring-slider"><span>${label}: <output data-output="${key}"></output></span>
      <input type="range" name="${key}" min="${min}" max="${max}" step="${by}"></label>`;
  const exciter = (ring) => `
    <button type="button" class="ring-${ring + 1}" data-excite="${ring}">Excite ring ${ring + 1}</button>`;
  const MARKUP = `
    <div class="ring-buttons">
      ${[0, 1, 2].map(exciter).join("")}
      <button type="button" data-do="play">Play</button>
      <button type="button" data-do="next">Next step</button>
      <button type="button" data-do="clear">Start over</button>
    </div>
    <div class="ring-panels">${PANELS.map(panel).join("")}</div>
    <div class="ring-sliders">${CONTROLS.map(slider).join("")}</div>
    <p class="ring-status" role="status"></p>`;

  function start(figure) {
    const app = document.createElement("div");
    app.className = "ring-app";
    app.setAttribute("role", "group");
    app.setAttribute("aria-label", "Interactive figure: three rings");
    app.innerHTML = MARKUP;
    const find = (selector) => app.querySelector(selector);
    const settings = { ...START };
    let inputs = Array.from({ length: RINGS }, () => new Float64Array(STEPS));
    for (const [ring, step] of [[0, 3], [1, 8], [0, 13], [2, 18]]) inputs[ring][step - 1] = 1;
    let timer = 0;

    function draw() {
      const steps = settings.step;
      const past = inputs.map((row) => row.subarray(0, steps));
      const truth = past.map((row) => Array.from(row).reverse());
      for (const [key] of PANELS) {
        const used = { ...settings, velocity: key === "wave" ? settings.velocity : 0 };
        const { read, r2 } = decoder(steps, used);
        const states = past.map((row) => state(row, used));
        const readings = states.map((h) => Array.from(read(h)));
        const known = r2.filter((value) => value >= TOLD).length;
        drawRings(find(`[data-view=${key}]`), states);
        drawReading(find(`[data-reading=${key}]`), past, readings, r2);
        const said = sayInputs(readings);
        find(`[data-view=${key}]`).setAttribute(
          "aria-label",
          `Three rings of ${settings.sites} sites; active: ` +
            states.map((h) => h.filter((value) => value > 0.05).length).join(", "),
        );
        find(`[data-reading=${key}]`).setAttribute("aria-label", `Decoded: ${said}`);
        find(`[data-told=${key}]`).textContent =
          `Tells the inputs of ${known} of the last ${steps} steps (R² of ${TOLD} or more). ` +
          `It reads: ${said}.`;
      }
      for (const [key] of CONTROLS) {
        find(`[name=${key}]`).value = settings[key];
        find(`[data-output=${key}]`).textContent = settings[key];
      }
      for (const button of app.querySelectorAll("button[data-excite]")) {
        button.setAttribute("aria-pressed", inputs[button.dataset.excite][steps - 1] === 1);
      }
      find("[data-do=play]").textContent = timer ? "Pause" : "Play";
      if (!timer) {
        find(".ring-status").textContent = `Step ${steps} of ${STEPS}. Inputs: ${sayInputs(truth)}.`;
      }
    }

    function pause() {
      clearInterval(timer);
      timer = 0;
    }

    function play() {
      if (settings.step === STEPS) settings.step = 1;
      timer = setInterval(() => {
        settings.step += 1;
        if (settings.step >= STEPS) pause();
        draw();
      }, 300);
    }

    function excite(ring) {
      const at = settings.step - 1;
      inputs[ring][at] = 1 - inputs[ring][at];
      if (!timer && !matchMedia("(prefers-reduced-motion: reduce)").matches) play();
      draw();
    }

    const ACTIONS = {
      play: () => (timer ? pause() : play()),
      next: () => {
        pause();
        settings.step = (settings.step % STEPS) + 1;
      },
      clear: () => {
        pause();
        inputs = inputs.map(() => new Float64Array(STEPS));
        settings.step = 1;
      },
    };
    app.addEventListener("click", ({ target }) => {
      const ring = target.closest("[data-excite]")?.dataset.excite;
      if (ring !== undefined) excite(Number(ring));
      const action = ACTIONS[target.dataset.do];
      if (action) {
        action();
        draw();
      }
    });
    app.addEventListener("input", ({ target }) => {
      if (target.name === "step") pause();
      settings[target.name] = Number(target.value);
      draw();
    });
    const picture = figure.querySelector("img");
    (picture.closest("a") ?? picture).replaceWith(app);
    draw();
  }

  window.wrnnRing = { state, decoder };
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("figure#fig-ring").forEach(start);
  });
})();
