// A causal graph to try out: change inputs, force nodes, take values from the run of a source.
// Every value is computed here, from tables or from the weights of a small network.

interpose.widgets.explorer = function (figure, data) {
  "use strict";
  const { UNIT, html, svg, short, full, panel, show, arrange, link, walkable, live } = interpose.graph;
  const { nodes, inputs, outputs, colours } = data.graph;
  const same = (a, b) => (data.numbers ? full(a) === full(b) : a === b);

  // -- the model -----------------------------------------------------------------------------------

  const THROUGH = {
    "": (v) => v,
    tanh: Math.tanh,
    sigmoid: (v) => 1 / (1 + Math.exp(-v)),
    silu: (v) => v / (1 + Math.exp(-v)),
  };
  const places = nodes.map((node) => new Map((node.levels ?? []).map((code, k) => [code, k])));

  // The value of every node, null where it has none; and the size of the terms that a sum was made of.
  function run(given, written) {
    const values = [], sizes = [];
    for (const k of data.order) {
      const own = inputs.indexOf(k);
      if (written.has(k)) [values[k], sizes[k]] = written.get(k);
      else [values[k], sizes[k]] = own >= 0 ? [given[own], 0] : computed(nodes[k], values);
    }
    return { values, sizes };
  }
  function computed(node, values) {
    const from = node.parents.map((parent) => values[parent]);
    if (from.includes(null)) return [null, 0];
    return data.numbers ? summed(node.sum, from) : [looked(node, from), 0];
  }
  function summed({ bias, above, below, through }, from) {
    let total = bias, size = Math.abs(bias);
    from.forEach((value, i) => {
      const term = (value > 0 ? above[i] : below[i]) * THROUGH[through[i]](value);
      total += term;
      size += Math.abs(term);
    });
    return [total, size];
  }
  function looked(node, from) {
    let entry = 0;
    for (const [i, value] of from.entries()) {
      const place = places[node.parents[i]].get(value);
      if (place === undefined) return null;
      entry = entry * nodes[node.parents[i]].levels.length + place;
    }
    const found = node.table[entry];
    return found === null ? null : node.levels[found];
  }

  // Where values come from: see `classify` in drawing.py, which this follows rule by rule.
  function classes(written) {
    const kinds = [];
    for (const k of data.order) {
      const sides = new Set(nodes[k].parents.map((parent) => kinds[parent].split(" ")[0]));
      const only = (side) => [...sides].every((one) => one === side);
      if (written.has(k)) kinds[k] = "source input";
      else if (inputs.includes(k)) kinds[k] = "base input";
      else if (sides.size && only("source")) kinds[k] = "source value";
      else kinds[k] = only("base") ? "base value" : "counterfactual value";
    }
    return kinds;
  }

  // -- the state -----------------------------------------------------------------------------------

  let state, runs, plain, kinds, chosen, held;
  const opening = () => ({
    panels: data.panels.map((values) => [...values]),
    writes: new Map(data.writes.map(({ node, ...how }) => [node, how])),
  });
  const NOTHING = new Map();

  function compute() {
    runs = state.panels.map((given) => run(given, NOTHING));
    plain = runs[0];
    const written = new Map();
    for (const [k, how] of state.writes) {
      const from = runs[how.panel];
      written.set(k, from ? [allowed(k, from.values[how.from]), from.sizes[how.from]] : [how.value, 0]);
    }
    runs[0] = run(state.panels[0], written);
    kinds = state.panels.map((_, p) => classes(p ? new Map(inputs.map((k) => [k])) : written));
  }
  const allowed = (k, value) => (data.numbers || places[k].has(value) ? value : null);

  // What is within rounding of 0, of numbers so large, is shown as 0.
  function words({ values, sizes }, k, say) {
    const value = values[k];
    if (value === null) return say === full ? "no value" : "?";
    if (!data.numbers) return data.values[value][say === full ? "full" : "short"];
    return say(Math.abs(value) <= 4 * data.precision * sizes[k] ? 0 : value);
  }
  const sourceName = (p) => (state.panels.length > 2 ? `source ${p}` : "source");
  const theSource = (p) => (state.panels.length > 2 ? sourceName(p) : "the source");
  const changed = (k) => words(runs[0], k, full) !== words(plain, k, full);

  function change(act) {
    act();
    compute();
    update();
  }
  const force = (k, value) => change(() => state.writes.set(k, { value }));
  const release = (k) => change(() => state.writes.delete(k));
  const take = (k, from) => change(() => { state.writes.set(k, from); held = null; chosen = k; });

  // -- fields for values ---------------------------------------------------------------------------

  // A stepper where the choices are numbers at equal distances, a list where they are not; any number without choices.
  function field(label, choices, onpick) {
    const numbers = choices?.map((choice) => choice.number);
    const sorted = numbers && [...numbers].sort((a, b) => a - b);
    const even = !sorted || (sorted.length > 1 && sorted.every((number, i) => number !== undefined
      && (i === 0 || Math.abs(number - sorted[i - 1] - sorted[1] + sorted[0]) < 1e-9 * Math.abs(sorted[1] - sorted[0]))));
    const listen = { "aria-label": label, oninput: () => picked() };
    const element = !even
      ? html("select", listen, ...choices.map(({ text }, i) => Object.assign(html("option", { value: i }), { textContent: text })))
      : html("input", { type: "number", inputmode: "decimal", step: sorted ? sorted[1] - sorted[0] : "any",
        min: sorted?.[0], max: sorted?.at(-1), ...listen });
    const code = () => {
      if (!even) return choices[element.value].code;
      const number = element.value === "" ? NaN : Number(element.value);
      return choices ? choices.find((choice) => choice.number === number)?.code : Number.isFinite(number) ? number : undefined;
    };
    function picked() {
      const value = code();
      element.setAttribute("aria-invalid", value === undefined);
      if (value !== undefined) onpick(value);
    }
    function set(value) {
      if (value === null || (document.activeElement === element && even)) return;
      const place = choices?.findIndex((choice) => choice.code === value);
      element.value = even ? (choices ? choices[place]?.number ?? "" : full(value)) : place;
      element.setAttribute("aria-invalid", false);
    }
    return { element, set };
  }
  function choicesOf(k) {
    if (data.numbers) return nodes[k].choices?.map((number) => ({ code: number, number, text: short(number) }));
    return nodes[k].levels.map((code) => ({ code, text: data.values[code].full, number: data.values[code].number }));
  }

  // -- what is on the page ---------------------------------------------------------------------------

  const canvas = svg("svg", {});
  const overlay = html("div", { class: "ip-canvas" }, canvas);
  const scroll = html("div", { class: "ip-scroll" }, overlay);
  const said = html("p", { class: "ip-said", "aria-live": "polite" });
  const bar = html("div", { class: "ip-bar" });
  const legend = html("div", { class: "ip-legend" }, ...legendEntries());
  const beside = html("button", { type: "button", onclick: addSource }, "Compare with a source");
  const reset = html("button", { type: "button", onclick: start }, "Reset");
  const foot = html("div", { class: "ip-foot" }, bar, said);
  const root = html("div", { class: "ip-live ip-explorer" }, scroll, foot, legend,
    html("div", { class: "ip-tools" }, beside, reset));
  const links = svg("g", {});
  let panels, fields, shape, refreshBar = () => {};

  function start() {
    [state, chosen, held] = [opening(), null, null];
    build();
  }
  function addSource() {
    state.panels.push([...state.panels[0]]);
    build();
  }

  function build() {
    compute();
    panels = state.panels.map((_, p) => panel(data.graph, p ? sourceName(p) : "base", { bottom: 0.98 }));
    canvas.replaceChildren(...panels.map((one) => one.group), links);
    fields = panels.map((_, p) => inputs.map((k, i) => {
      const label = `${nodes[k].name} of ${p ? theSource(p) : "the base"}`;
      const one = field(label, choicesOf(k), (value) => change(() => { state.panels[p][i] = value; }));
      one.element.classList.add("ip-input");
      return one;
    }));
    overlay.replaceChildren(canvas, ...fields.flat().map((one) => one.element));
    panels.forEach((one, p) => {
      walkable(one);
      one.edges.forEach((edge) => edge.group.classList.toggle("ip-none", idle(edge)));
      one.nodes.forEach((node, k) => {
        node.group.addEventListener("keydown", (event) => pressed(event, p, k));
        node.group.addEventListener("pointerdown", (event) => grabbed(event, p, k));
        node.group.addEventListener("click", (event) => event.detail === 0 && activate(p, k)); // of a screen reader
        node.group.classList.toggle("ip-source", p > 0);
      });
    });
    beside.hidden = state.panels.length > 1;
    place();
    choose();
    update();
  }

  // Where everything stands, which follows the room there is.
  function place() {
    shape = arrange(canvas, panels, scroll.clientWidth || 900);
    root.classList.toggle("ip-stacked", !shape.beside);
    panels.forEach((one, p) => fields[p].forEach(({ element }, i) => {
      const node = one.nodes[inputs[i]];
      element.style.left = `${(100 * (one.x + node.x)) / shape.width}%`;
      element.style.top = `${(100 * (one.y + node.y + 0.43 * UNIT)) / shape.height}%`;
      element.style.width = `${(100 * fieldWidth(one)) / shape.width}%`;
    }));
  }
  function fieldWidth(one) {
    const xs = inputs.map((k) => one.nodes[k].x).sort((a, b) => a - b);
    return Math.min(1.6 * UNIT, ...xs.slice(1).map((x, i) => x - xs[i] - 0.12 * UNIT));
  }

  function update() {
    panels.forEach((one, p) => one.nodes.forEach((node, k) => {
      const how = p === 0 && state.writes.get(k);
      const value = words(runs[p], k, full), kind = kinds[p][k];
      const way = !how ? kind : how.panel ? `taken from ${theSource(how.panel)}` : "forced";
      const was = p === 0 && changed(k) ? words(plain, k, short) : "";
      show(node, { value: words(runs[p], k, short), was, colour: colours[kind],
        hover: `${nodes[k].name} = ${value} (${way})${was && `, ${was} without interventions`}` });
      node.group.dataset.value = data.numbers ? runs[p].values[k] : value;
      node.group.dataset.kind = kind;
      node.group.classList.toggle("ip-chosen", p === 0 ? chosen === k : held?.panel === p && held.from === k);
      node.group.classList.toggle("ip-open", p === 0 && held !== null && accepts(k));
    }));
    fields.forEach((of, p) => of.forEach((one, i) => one.set(state.panels[p][i])));
    links.replaceChildren(...[...state.writes].filter(([, how]) => how.panel).map(([k, how]) =>
      link([panels[how.panel], panels[how.panel].nodes[how.from]], [panels[0], panels[0].nodes[k]],
        { arrow: true, beside: shape.beside })));
    const sentence = told();
    if (said.textContent !== sentence) said.textContent = sentence;
    refreshBar();
  }

  // -- the state in words ------------------------------------------------------------------------------

  const brief = data.numbers ? short : full; // in a sentence there is room for whole words
  function told() {
    if (!state.writes.size) return `Nothing is intervened on: ${listed(outputs.map((k) => `${outputName(k)} is ${words(plain, k, brief)}`))}.`;
    const acts = [...state.writes].map(([k, how]) => {
      const now = words(runs[0], k, brief), before = words(plain, k, brief);
      const instead = changed(k) ? `${now} instead of ${before}` : `${now}, as before`;
      if (!how.panel) return `${nodes[k].name} is forced to ${instead}`;
      const origin = how.from === k ? "" : `${nodes[how.from].name} of `;
      return `${nodes[k].name} is taken from ${origin}${theSource(how.panel)} (${instead})`;
    });
    const ends = outputs.map((k) => changed(k)
      ? `${outputName(k)} becomes ${words(runs[0], k, brief)} instead of ${words(plain, k, brief)}`
      : `${outputName(k)} stays ${words(runs[0], k, brief)}`);
    return `${listed(acts)}: ${listed(ends)}.`;
  }
  const outputName = (k) => (outputs.length > 1 ? nodes[k].name : "the output");
  const listed = (parts) => (parts.length > 1 ? `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}` : parts[0]);

  // Whether a weight is 0, so that nothing passes.
  function idle({ from, to }) {
    const { sum, parents } = nodes[to];
    return sum !== undefined && parents.every((parent, i) => parent !== from || (sum.above[i] === 0 && sum.below[i] === 0));
  }

  // How a node of a network is computed, where that is short.
  function formula(k) {
    const { sum, parents } = nodes[k];
    if (!sum) return "";
    const terms = parents.flatMap((parent, i) => {
      const [up, down, through, name] = [sum.above[i], sum.below[i], sum.through[i], nodes[parent].name];
      if (up === 0 && down === 0) return [];
      if (through) return [[up, `${through}(${name})`]];
      return up === down ? [[up, name]] : [...(up ? [[up, `max(${name}, 0)`]] : []), ...(down ? [[down, `min(${name}, 0)`]] : [])];
    });
    if (terms.length > 5) return "";
    const all = [...terms, ...(sum.bias || !terms.length ? [[sum.bias, ""]] : [])];
    return all.map(([weight, name], i) => {
      const sign = weight < 0 ? (i ? " − " : "−") : i ? " + " : "";
      const factor = short(Math.abs(weight));
      return sign + (name && factor === "1" ? name : [factor, name].filter(Boolean).join(" "));
    }).join("");
  }

  // -- the bar: what can be done with the node that is chosen -------------------------------------------

  const button = (text, onclick) => Object.assign(html("button", { type: "button", onclick }), { textContent: text });

  function choose() {
    bar.replaceChildren();
    refreshBar = () => {};
    if (held) return barOfHeld();
    if (chosen !== null) return barOfNode(chosen);
    const more = state.panels.length > 1 ? " Drag a value of the source onto the base, or choose it and then its new place." : "";
    bar.append(html("span", { class: "ip-hint" }, `Change an input in the fields. Choose a node of the base to force it.${more}`));
  }
  function barOfHeld() {
    const { panel: p, from } = held;
    bar.append(named(from), html("span", {}, `of ${theSource(p)} in hand: choose its new place in the base.`),
      button(`Put into ${nodes[from].name}`, () => { take(from, held); choose(); }), button("Let go", letGo));
  }
  function barOfNode(k) {
    const state0 = html("span", {}), free = button("Release", () => { release(k); });
    const forced = inputs.includes(k) ? null : field(`Force ${nodes[k].name} to`, choicesOf(k), (value) => force(k, value));
    const takes = state.panels.slice(1).map((_, i) => button("", () => take(k, { panel: i + 1, from: k })));
    if (forced) bar.append(named(k), state0, html("label", {}, "Force to ", forced.element), ...takes, free);
    else bar.append(named(k), state0, ...takes, free);
    refreshBar = () => {
      const how = state.writes.get(k), rule = formula(k);
      const own = inputs.includes(k) ? "an input, set in its field" : rule ? `= ${rule}` : `computed from ${nodes[k].parents.map((p) => nodes[p].name).join(", ") || "nothing"}`;
      state0.textContent = how ? (how.panel ? `taken from ${theSource(how.panel)}` : "forced") : own;
      forced?.set(runs[0].values[k]);
      takes.forEach((one, i) => { one.textContent = `Take ${words(runs[i + 1], k, short)} from ${theSource(i + 1)}`; });
      free.disabled = !how;
    };
    refreshBar();
  }
  const named = (k) => Object.assign(html("strong", {}), { textContent: nodes[k].name });

  function letGo() {
    [held, chosen] = [null, null];
    choose();
    update();
  }

  // -- acting on nodes: click, tap, Enter, drag -----------------------------------------------------------

  const accepts = (k) => data.numbers || held.from === k || allowed(k, runs[held.panel].values[held.from]) !== null;

  function activate(p, k) {
    if (p > 0) {
      [held, chosen] = [{ panel: p, from: k }, null];
    } else if (held) {
      if (!accepts(k)) return;
      take(k, held);
    } else {
      chosen = chosen === k ? null : k;
    }
    choose();
    update();
  }
  function pressed(event, p, k) {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      activate(p, k);
      if (p > 0) panels[0].nodes[k].group.focus();
      else if (chosen === k && !state.writes.has(k)) bar.querySelector("input, select, button")?.focus();
    } else if (event.key === "Escape") letGo();
    else if ((event.key === "Delete" || event.key === "Backspace") && p === 0) release(k);
  }

  function grabbed(event, p, k) {
    if (event.button) return;
    const from = { panel: p, from: k }, [x, y] = [event.clientX, event.clientY];
    let ghost = null, over = null;
    const point = ({ clientX, clientY }) => new DOMPoint(clientX, clientY).matrixTransform(canvas.getScreenCTM().inverse());
    const move = (now) => {
      if (p === 0 || (!ghost && Math.hypot(now.clientX - x, now.clientY - y) < 6)) return;
      if (!ghost) {
        [held, chosen] = [from, null];
        ghost = panels[p].nodes[k].group.cloneNode(true);
        ghost.setAttribute("class", "ip-ghost");
        ghost.removeAttribute("tabindex");
        canvas.append(ghost);
        update();
      }
      const at = point(now);
      ghost.setAttribute("transform", `translate(${at.x} ${at.y})`);
      over = nearest(at);
      panels[0].nodes.forEach((node, j) => node.group.classList.toggle("ip-over", j === over));
    };
    const end = (now) => {
      for (const [name, act] of listeners) window.removeEventListener(name, act);
      ghost?.remove();
      panels[0].nodes.forEach((node) => node.group.classList.remove("ip-over"));
      if (!ghost) return now.type === "pointerup" ? activate(p, k) : undefined;
      if (over !== null && now.type === "pointerup") take(over, from);
      else held = null;
      choose();
      update();
    };
    const listeners = [["pointermove", move], ["pointerup", end], ["pointercancel", end]];
    for (const [name, act] of listeners) window.addEventListener(name, act);
  }
  function nearest(at) {
    const base = panels[0];
    const far = base.nodes.map((node) => Math.hypot(node.x + base.x - at.x, node.y + base.y - at.y));
    const k = far.indexOf(Math.min(...far));
    return far[k] < 0.75 * UNIT && accepts(k) ? k : null;
  }

  // -- the legend ------------------------------------------------------------------------------------------

  function legendEntries() {
    const said = { "source input": "source input, or intervened on" };
    const entries = Object.entries(colours).map(([kind, colour]) => {
      const dot = html("i", {});
      dot.style.background = colour;
      return html("span", {}, dot, said[kind] ?? kind);
    });
    const faint = svg("svg", { width: 20, height: 8 }, svg("path", { class: "ip-edge ip-none", d: "M0 4 H20" }));
    return [...entries, html("span", {}, html("s", {}, "6"), " without interventions"),
      ...(data.graph.edges.some(idle) ? [html("span", {}, faint, " weight 0")] : [])];
  }

  start();
  live(figure, root);
  place();
  update();
  new ResizeObserver(() => requestAnimationFrame(() => { place(); update(); })).observe(scroll);
};

interpose.graph.adopt(`
  .ip-source { cursor: grab; touch-action: none; }
  .ip-ghost { pointer-events: none; opacity: 0.88; } .ip-ghost .ip-circle { stroke: var(--ip-carry); stroke-width: 2.5; }
  .ip-explorer .ip-input { position: absolute; transform: translateX(-50%); text-align: center; padding: 0.1rem 0.15rem;
    min-width: 2.6rem; height: 1.75rem; }
  @media (pointer: fine) { .ip-explorer .ip-input[type="number"] { padding-left: 1rem; } }
  .ip-bar { display: flex; flex-wrap: wrap; gap: 0.35rem 0.7rem; align-items: center; justify-content: center;
    min-height: 2.5rem; max-width: 46rem; text-align: center; margin: 0.4rem auto 0; }
  .ip-bar input { width: 6.5rem; } .ip-bar span, .ip-bar label { color: var(--ip-muted); font-size: 0.88rem; }
  .ip-bar button:disabled { opacity: 0.45; cursor: default; }
  .ip-legend { display: flex; flex-wrap: wrap; gap: 0.15rem 1rem; justify-content: center; font-size: 0.8rem;
    color: var(--ip-muted); }
  .ip-legend i { display: inline-block; width: 0.7em; height: 0.7em; border-radius: 50%; margin-right: 0.4em;
    border: 1px solid #8c93a0; }
  .ip-stacked .ip-foot { position: sticky; bottom: 0; padding: 0.2rem 0; background: var(--ip-paper);
    border-top: 1px solid var(--ip-hair); z-index: 1; }
  .ip-tools { display: flex; gap: 0.6rem; justify-content: center; margin-top: 0.6rem; }`);
