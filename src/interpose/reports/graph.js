// What live figures share: causal graphs drawn as `interpose.draw` draws them, and values in words.
// Names and values are put in place as text alone, never as markup.

interpose.graph = (function () {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";
  const UNIT = 78; // pixels to a unit of the layout
  const SIDE = 0.72, TOP = 1.02, BOTTOM = 0.5, GAP = 0.45; // units around a graph, and between two

  // -- elements ----------------------------------------------------------------------------------

  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }
  const html = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

  // -- values in words ---------------------------------------------------------------------------

  // Python's "%.{digits}g": halves go to the even digit, zeros at the end are dropped.
  function general(value, digits) {
    if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
    if (value === 0) return "0";
    const exact = value.toExponential(60).replace("-", "").replace(".", "").split("e")[0];
    if (/^50*$/.test(exact.slice(digits)) && exact[digits - 1] % 2 === 0) value *= 1 - 2 ** -40;
    const [mantissa, power] = value.toExponential(digits - 1).split("e");
    const bare = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
    if (power >= -4 && power < digits) return bare(value.toFixed(digits - 1 - power));
    return `${bare(mantissa)}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
  }
  const full = (value) => general(value, 6);
  function short(value) {
    const texts = [4, 3, 2, 1].map((digits) => general(value, digits));
    return texts.find((text) => text.length <= 8) ?? texts[3].slice(0, 7) + "…";
  }

  // -- one graph ---------------------------------------------------------------------------------

  // Nodes and edges of a graph, in pixels from its own corner. Each node hands out its parts, to be filled by `show`.
  function panel(graph, title, options = {}) {
    const xs = graph.nodes.map((node) => node.x), ys = graph.nodes.map((node) => node.y);
    const left = Math.min(...xs), high = Math.max(...ys), radius = graph.radius * UNIT;
    const width = (Math.max(...xs) - left + 2 * SIDE) * UNIT;
    const height = (high + TOP + (options.bottom ?? BOTTOM)) * UNIT;
    const at = (x, y) => [(x - left + SIDE) * UNIT, (high - y + TOP) * UNIT];
    const edges = graph.edges.map((edge) => {
      const [start, middle, end] = edge.way.map(([x, y]) => at(x, y));
      const path = svg("path", { class: "ip-edge", d: `M${start} Q${middle} ${end}` });
      return { from: edge.from, to: edge.to, group: svg("g", {}, path, head(middle, end, "ip-head", 7)) };
    });
    const nodes = graph.nodes.map((node) => {
      const [x, y] = at(node.x, node.y);
      const parts = {
        circle: svg("circle", { r: radius, class: "ip-circle" }),
        value: svg("text", { class: "ip-value", dy: "0.35em" }),
        name: svg("text", { class: "ip-name", y: -radius - 9 }),
        halo: svg("text", { class: "ip-was ip-halo", x: -radius - 2, y: -radius * 0.6 }),
        was: svg("text", { class: "ip-was", x: -radius - 2, y: -radius * 0.6 }),
        title: svg("title"),
      };
      parts.name.textContent = node.name;
      const group = svg("g", { class: "ip-node", transform: `translate(${x} ${y})` }, ...Object.values(parts));
      return { ...parts, group, radius, x, y };
    });
    const heading = svg("text", { class: "ip-heading", x: width / 2, y: 15 }, title);
    const lines = svg("g", { "aria-hidden": "true" }, ...edges.map((edge) => edge.group));
    const group = svg("g", { role: "group", "aria-label": title }, heading, lines, ...nodes.map((node) => node.group));
    return { graph, group, heading, nodes, edges, width, height, x: 0, y: 0 };
  }

  function head([x0, y0], [x, y], kind, size) {
    const angle = (Math.atan2(y - y0, x - x0) * 180) / Math.PI;
    const shape = `M0 0 L${-size} ${size * 0.42} L${-size} ${-size * 0.42} Z`;
    return svg("path", { class: kind, d: shape, transform: `translate(${x} ${y}) rotate(${angle})` });
  }

  // The words in a node: its value, what it was, and all of it for the pointer and for screen readers.
  function show(node, { value = "", was = "", hover = "", colour = null }) {
    if (node.value.textContent !== value) node.value.textContent = value;
    const ems = [...value].reduce((sum, sign) => sum + (/[A-Z+=]/.test(sign) ? 0.74 : 0.58), 0);
    node.value.style.fontSize = `${Math.max(9, Math.min(14.5, (1.76 * node.radius) / ems)).toFixed(1)}px`;
    node.was.textContent = node.halo.textContent = was;
    node.title.textContent = hover;
    node.group.setAttribute("aria-label", hover);
    node.circle.style.fill = colour ?? "";
  }

  // -- several graphs on one canvas ---------------------------------------------------------------

  // Side by side where there is room for it, else one above the other. Returns whether they stand side by side.
  function arrange(canvas, panels, room) {
    const row = panels.reduce((sum, one) => sum + one.width, 0) + GAP * UNIT * (panels.length - 1);
    const beside = panels.length === 1 || room >= 0.74 * row;
    const width = beside ? row : Math.max(...panels.map((one) => one.width));
    const tallest = Math.max(...panels.map((one) => one.height));
    let x = 0, y = 0, height = 0;
    for (const one of panels) {
      [one.x, one.y] = beside ? [x, tallest - one.height] : [(width - one.width) / 2, y];
      one.heading.setAttribute("y", 15 - (beside ? one.y : 0));
      one.group.setAttribute("transform", `translate(${one.x} ${one.y})`);
      height = Math.max(height, one.y + one.height);
      x += one.width + GAP * UNIT;
      y += one.height + 0.25 * UNIT;
    }
    canvas.setAttribute("viewBox", `0 0 ${width} ${height}`);
    canvas.parentNode.style.maxWidth = `${width}px`;
    canvas.parentNode.style.minWidth = `${Math.round(0.66 * width)}px`;
    return { beside, width, height };
  }

  // A line from a node of one panel to a node of another: in a row above what stands between them, else round it.
  function link([one, from], [other, to], { arrow, beside }) {
    const start = [one.x + from.x, one.y + from.y], end = [other.x + to.x, other.y + to.y];
    const far = (one.graph.radius + 0.05) * UNIT, across = end[0] - start[0], down = end[1] - start[1];
    const rise = Math.min(0.22 * Math.abs(across), UNIT) + 0.2 * UNIT;
    let first, last;
    if (!beside) {
      const right = Math.max(...[one, other].flatMap((panel) => panel.nodes.map((node) => node.x + panel.x))) + 0.5 * UNIT;
      const turn = (x) => x + (right - x) / 0.75;
      [first, last] = [[turn(start[0]), start[1] + Math.sign(down) * 0.7 * UNIT], [turn(end[0]), end[1] - Math.sign(down) * 0.7 * UNIT]];
    } else {
      const level = Math.abs(down) < 0.5 * UNIT ? rise : 0.1 * Math.abs(across);
      const part = (share) => [start[0] + share * across, start[1] + share * down - level];
      [first, last] = [part(0.25), part(0.75)];
    }
    const cut = ([x, y], [u, v]) => {
      const share = far / Math.hypot(u - x, v - y);
      return [x + share * (u - x), y + share * (v - y)];
    };
    const [a, b] = [cut(start, first), cut(end, last)];
    const path = svg("path", { class: arrow ? "ip-taken" : "ip-held", d: `M${a} C${first} ${last} ${b}` });
    return svg("g", { "aria-hidden": "true" }, path, ...(arrow ? [head(last, b, "ip-taken-head", 13)] : []));
  }

  // -- moving among nodes with the keyboard --------------------------------------------------------

  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  // Makes the nodes of a panel one stop of the Tab key; arrows go to the nearest node that way.
  function walkable(panel, onFocus = () => {}) {
    panel.nodes.forEach((node, k) => {
      fill(node.group, { tabindex: k ? -1 : 0, role: "button", onfocus: () => { stop(k); onFocus(k); } }, []);
      node.group.addEventListener("keydown", (event) => {
        const way = STEPS[event.key];
        if (!way) return;
        event.preventDefault();
        const near = panel.nodes
          .map((other, j) => [(other.x - node.x) * way[0] + (other.y - node.y) * way[1],
            Math.abs((other.x - node.x) * way[1]) + Math.abs((other.y - node.y) * way[0]), j])
          .filter(([ahead, aside]) => ahead > 1 && (way[1] !== 0 || aside < ahead))
          .sort((a, b) => a[0] + 2 * a[1] - b[0] - 2 * b[1])[0];
        if (near) panel.nodes[near[2]].group.focus();
      });
    });
    function stop(k) {
      panel.nodes.forEach((node, j) => node.group.setAttribute("tabindex", j === k ? 0 : -1));
    }
  }

  // -- the figure ----------------------------------------------------------------------------------

  const STYLE = `
  .ip-live { --ip-ink: var(--ink, #20242c); --ip-paper: var(--paper, #fff); --ip-muted: var(--muted, color-mix(in srgb, var(--ip-ink) 70%, var(--ip-paper)));
    --ip-accent: var(--accent, #6a5fc1); --ip-line: color-mix(in srgb, var(--ip-ink) 52%, var(--ip-paper));
    --ip-hair: color-mix(in srgb, var(--ip-ink) 16%, var(--ip-paper)); --ip-carry: #ec3b82;
    color: var(--ip-ink); font: 0.94rem/1.5 system-ui, sans-serif; max-width: 100%; }
  @media (prefers-color-scheme: dark) {
    .ip-live { --ip-ink: var(--ink, #e7e8ec); --ip-paper: var(--paper, #17191e); --ip-accent: var(--accent, #a59fd9); } }
  @media screen { .ip-still { display: none !important; } }
  @media print { .ip-live { display: none !important; } }
  .ip-scroll { overflow-x: auto; padding: 0.25rem 0; }
  .ip-canvas { position: relative; margin: 0 auto; }
  .ip-canvas svg { display: block; width: 100%; height: auto; overflow: visible; }
  .ip-canvas text { font: 13px system-ui, sans-serif; fill: var(--ip-ink); text-anchor: middle; user-select: none;
    -webkit-user-select: none; pointer-events: none; }
  .ip-canvas .ip-heading { font-weight: 650; font-size: 14.5px; }
  .ip-canvas .ip-value { fill: #20242c; font-variant-numeric: tabular-nums; }
  .ip-canvas .ip-name { paint-order: stroke; stroke: var(--ip-paper); stroke-width: 5px; stroke-linejoin: round; }
  .ip-canvas .ip-was { text-anchor: end; font-size: 11.5px; fill: var(--ip-muted); text-decoration: line-through; }
  .ip-canvas .ip-halo { text-decoration: none; stroke: var(--ip-paper); stroke-width: 5px; stroke-linejoin: round; }
  .ip-none { opacity: 0.28; }
  .ip-edge { fill: none; stroke: var(--ip-line); stroke-width: 1; }
  .ip-head { fill: var(--ip-line); }
  .ip-circle { fill: var(--ip-paper); stroke: #8c93a0; stroke-width: 1; transition: fill 0.15s; }
  .ip-node { outline: none; cursor: pointer; }
  .ip-node:focus-visible .ip-circle, .ip-node.ip-chosen .ip-circle { stroke: var(--ip-accent); stroke-width: 3.5; }
  .ip-node.ip-open .ip-circle { stroke: var(--ip-carry); stroke-width: 2; stroke-dasharray: 4 3; }
  .ip-node.ip-over .ip-circle { stroke: var(--ip-carry); stroke-width: 4.5; stroke-dasharray: none; }
  .ip-taken { fill: none; stroke: var(--ip-carry); stroke-width: 2.4; pointer-events: none; }
  .ip-taken-head { fill: var(--ip-carry); pointer-events: none; }
  .ip-said { margin: 0.3rem auto 0.5rem; max-width: 46rem; text-align: center; text-wrap: balance; min-height: 1.5em; }
  .ip-live button, .ip-live input, .ip-live select { font: inherit; font-size: 0.88rem; color: var(--ip-ink);
    background: var(--ip-paper); border: 1px solid var(--ip-line); border-radius: 5px; padding: 0.12rem 0.5rem;
    box-sizing: border-box; }
  .ip-live button { cursor: pointer; padding: 0.2rem 0.7rem; }
  .ip-live button:hover { border-color: var(--ip-accent); }
  .ip-live :is(button, input, select):focus-visible { outline: 2.5px solid var(--ip-accent); outline-offset: 1px; }
  .ip-live [aria-invalid="true"] { border-color: var(--ip-carry); border-style: dashed; }
  @media (pointer: coarse) {
    .ip-live input, .ip-live select { font-size: 16px; } .ip-live button { padding: 0.4rem 0.8rem; } }`;

  function adopt(style) {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(style);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  }
  adopt(STYLE);

  // Puts what lives in the place of what stands still, which stays for print.
  function live(figure, element) {
    for (const child of figure.children) {
      if (!child.matches("script, figcaption")) child.classList.add("ip-still");
    }
    figure.append(element);
  }

  return { UNIT, html, svg, fill, short, full, panel, show, arrange, link, walkable, adopt, live };
})();
