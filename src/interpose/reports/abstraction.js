// A causal abstraction: to point at a variable of the model shows the neurons that hold it and how it is written there.

interpose.widgets.abstraction = function (figure, data) {
  "use strict";
  const { html, svg, panel, show, arrange, link, walkable, live } = interpose.graph;
  const { low, high, held, notes } = data;
  const [NETWORK, MODEL] = [0, 1];
  const VIOLET = low.colours["counterfactual value"], GREEN = low.colours["base input"];

  const names = (one, those) => those.map((k) => one.nodes[k].name).join(" and ");
  const named = (one, k) => one.nodes[k].name;

  const panels = [panel(low, "network", { bottom: 0.5 }), panel(high, "causal model", { bottom: 0.5 })];
  const links = svg("g", {});
  const canvas = svg("svg", {}, links, ...panels.map((one) => one.group));
  const scroll = html("div", { class: "ip-scroll" }, html("div", { class: "ip-canvas" }, canvas));
  const said = html("p", { class: "ip-said", "aria-live": "polite" });
  const rules = html("div", { class: "ip-rules" }, ...held.map(ruleOf));
  const root = html("div", { class: "ip-live ip-abstraction" }, scroll, said, rules);
  const HINT = "Point at a variable or a neuron, or go there with Tab and the arrow keys, to see what holds what.";
  let lines = [];

  function ruleOf(claim) {
    const focus = () => point(MODEL, claim.variable);
    const rule = html("button", { type: "button", onmouseenter: focus, onfocus: focus, onmouseleave: rest, onblur: rest });
    rule.append(Object.assign(html("strong", {}), { textContent: named(high, claim.variable) }), html("span", {}, claim.rule));
    return rule;
  }

  // The claims that a node of one side is part of; an input of that name on the other side goes with it too.
  function partners(side, k) {
    const claims = held.filter((claim) => (side === MODEL ? claim.variable === k : claim.nodes.includes(k)));
    const [own, other] = side === MODEL ? [high, low] : [low, high];
    const twin = own.inputs.includes(k) ? other.inputs.find((j) => named(other, j) === named(own, k)) : undefined;
    const ones = [new Set(claims.flatMap((claim) => claim.nodes)), new Set(claims.map((claim) => claim.variable))];
    ones[side].add(k);
    if (twin !== undefined) ones[1 - side].add(twin);
    return { claims, ones, twin };
  }

  function point(side, k) {
    const { claims, ones, twin } = partners(side, k);
    panels.forEach((one, p) => one.nodes.forEach((node, j) => node.group.classList.toggle("ip-away", !ones[p].has(j))));
    panels.forEach((one) => one.edges.forEach((edge) => edge.group.classList.add("ip-away")));
    held.forEach((claim, i) => {
      const near = claims.includes(claim);
      rules.children[i].classList.toggle("ip-near", near);
      lines[i].forEach((line) => { line.classList.toggle("ip-away", !near); line.classList.toggle("ip-near", near); });
    });
    said.textContent = sentence(side, k, claims, twin);
  }
  function sentence(side, k, claims, twin) {
    const name = named(side === MODEL ? high : low, k);
    if (claims.length) {
      return claims.map((claim) => `${names(low, claim.nodes)} ${claim.nodes.length > 1 ? "together hold" : "holds"} ${named(high, claim.variable)}: ${claim.rule}.`).join(" ");
    }
    const note = side === NETWORK && notes.find((one) => one.node === k);
    if (note) return `${name} holds no variable. ${note.text[0].toUpperCase()}${note.text.slice(1)}.`;
    if (twin !== undefined) return `${name} is an input of both.`;
    if ((side === MODEL ? high : low).outputs.includes(k)) return `${name} is the output.`;
    return side === MODEL ? `${name} is claimed of no neuron.` : `${name} holds no variable of the claim.`;
  }
  function rest() {
    for (const faded of root.querySelectorAll(".ip-away, .ip-near")) faded.classList.remove("ip-away", "ip-near");
    said.textContent = HINT;
  }

  function place() {
    const shape = arrange(canvas, panels, scroll.clientWidth || 900);
    lines = held.map((claim) => claim.nodes.map((k) =>
      link([panels[NETWORK], panels[NETWORK].nodes[k]], [panels[MODEL], panels[MODEL].nodes[claim.variable]],
        { arrow: false, beside: shape.beside })));
    links.replaceChildren(...lines.flat());
  }

  const cut = (text) => (text.length > 8 ? `${text.slice(0, 7)}…` : text);
  panels.forEach((one, side) => {
    one.nodes.forEach((node, k) => {
      const own = held.find((claim) => (side === MODEL ? claim.variable === k : claim.nodes.includes(k)));
      const colour = own ? VIOLET : (side === MODEL ? high : low).inputs.includes(k) ? GREEN : null;
      show(node, { value: own && side === NETWORK ? cut(named(high, own.variable)) : "", colour,
        hover: sentence(side, k, own ? [own] : [], partners(side, k).twin) });
      node.group.addEventListener("pointerenter", () => point(side, k));
      node.group.addEventListener("pointerleave", rest);
      node.group.addEventListener("blur", rest);
      node.group.addEventListener("click", () => node.group.focus());
    });
    walkable(one, (k) => point(side, k));
  });
  place();
  rest();
  live(figure, root);
  place();
  new ResizeObserver(() => requestAnimationFrame(() => { place(); rest(); })).observe(scroll);
};

interpose.graph.adopt(`
  .ip-abstraction .ip-node, .ip-abstraction .ip-edge, .ip-held { transition: opacity 0.15s; }
  .ip-held { fill: none; stroke: var(--ip-accent); stroke-width: 1.6; stroke-dasharray: 5 4; pointer-events: none; }
  .ip-near .ip-held { stroke-width: 2.6; stroke-dasharray: none; }
  .ip-abstraction .ip-away { opacity: 0.25; }
  .ip-rules { display: flex; flex-direction: column; width: max-content; max-width: 100%; margin: 0 auto; }
  .ip-rules button { display: flex; gap: 0.8rem; text-align: left; border: 0; border-left: 3px solid transparent;
    border-radius: 0; background: none; padding: 0.15rem 0.6rem; }
  .ip-rules strong { min-width: 4.2rem; } .ip-rules .ip-near { border-left-color: var(--ip-accent); }`);
