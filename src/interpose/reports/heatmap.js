/* Maps whose cells open: a click, or Enter, shows the four runs of every pair behind a cell; arrows go from cell to cell. */
interpose.widgets.heatmap = function (figure, data) {
  const svg = figure.querySelector("svg");
  const { element, number } = interpose;
  const cells = new Map();
  for (const shape of svg.querySelectorAll('g[id*="-cell-"]')) {
    const [map, row, column] = shape.id.split("-cell-")[1].split("-").map(Number);
    cells.set(`${map} ${row} ${column}`, { shape, map, row, column, known: null });
  }
  data.maps.forEach((map, k) => {
    for (const known of map.cells) cells.get(`${k} ${known.at[0]} ${known.at[1]}`).known = known;
  });
  const open = [...cells.values()].filter((cell) => cell.known);
  if (open.length === 0) return;

  const ring = (name, cell) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    made.setAttribute("class", "ring " + name);
    const box = cell.shape.getBBox();
    for (const key of ["x", "y", "width", "height"]) made.setAttribute(key, box[key]);
    figure.querySelectorAll(".ring." + name).forEach((old) => old.remove());
    cell.shape.parentNode.append(made);
  };
  const panel = element("div", { class: "panel", role: "region", "aria-label": "The chosen cell", hidden: "" });
  const hint = element("p", { class: "told" }, "Choose a cell to see its pairs. With the keyboard: arrows, then Enter.");
  figure.append(hint, panel);

  svg.setAttribute("role", "group");
  svg.setAttribute("aria-label", figure.getAttribute("aria-label") + ". Arrow keys go from cell to cell, Enter opens one.");
  const words = (cell) => cell.shape.querySelector("title").textContent;
  for (const cell of open) {
    cell.shape.classList.add("cell");
    cell.shape.setAttribute("role", "button");
    cell.shape.setAttribute("aria-label", (data.maps.length > 1 ? data.maps[cell.map].subject + ", " : "") + words(cell));
    cell.shape.setAttribute("aria-pressed", "false");
    cell.shape.setAttribute("tabindex", cell === open[0] ? "0" : "-1");
    cell.shape.addEventListener("click", () => { here(cell); show(cell); });
    cell.shape.addEventListener("focus", () => { if (cell.shape.matches(":focus-visible")) ring("here", cell); hint.textContent = words(cell); });
    cell.shape.addEventListener("blur", () => figure.querySelectorAll(".ring.here").forEach((old) => old.remove()));
    cell.shape.addEventListener("pointerenter", () => { hint.textContent = words(cell); });
    cell.shape.addEventListener("keydown", (event) => press(event, cell));
  }

  function here(cell) {
    for (const other of open) other.shape.setAttribute("tabindex", "-1");
    cell.shape.setAttribute("tabindex", "0");
    cell.shape.focus({ preventScroll: true });
  }

  /* Rows are drawn upwards. Beyond the last column of a map comes the next map. */
  const steps = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] };
  function press(event, cell) {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      show(cell);
    } else if (event.key === "Home" || event.key === "End") {
      event.preventDefault();
      const row = open.filter((other) => other.map === cell.map && other.row === cell.row);
      here(row[event.key === "Home" ? 0 : row.length - 1]);
    } else if (steps[event.key]) {
      event.preventDefault();
      const next = beyond(cell, ...steps[event.key]);
      if (next) here(next);
    }
  }
  function beyond(cell, up, right) {
    const place = (other) => [other.map * 1e6 + other.column, other.row];
    const [x, y] = place(cell);
    let best = null;
    for (const other of open) {
      const [u, v] = place(other);
      const along = right ? (u - x) * right : (v - y) * up;
      const aside = right ? v - y : u - x;
      if (along <= 0 || aside !== 0) continue;
      if (best === null || along < best.along) best = { other, along };
    }
    return best && best.other;
  }

  function show(cell) {
    const map = data.maps[cell.map];
    const known = cell.known;
    for (const other of open) other.shape.setAttribute("aria-pressed", String(other === cell));
    ring("open", cell);
    const [full, part, none] = known.extent;
    const table = element("table", {},
      element("caption", {}, `The four runs of each pair, in ${map.metric}` + (map.pairs.length < map.of ? `: the first ${map.pairs.length} of ${map.of}` : "")),
      element("thead", {}, element("tr", {}, ...heads.map(([text, why], k) => element("th", { scope: "col", title: why, ...(k > 2 ? { class: "number" } : {}) }, text)))),
      element("tbody", {}, ...rowsOf(map, known).map((row) => element("tr", {}, ...row.map((value, k) =>
        k === 0 ? element("th", { scope: "row" }, String(value)) : element("td", k > 2 ? { class: "number" } : {}, k > 2 ? number(value) : value))))));
    interpose.sortable(table);
    panel.replaceChildren(
      element("h4", {}, known.place + (data.maps.length > 1 ? `, for ${map.subject}` : "")),
      element("p", {}, `${known.verdict[0].toUpperCase()}${known.verdict.slice(1)}: ${known.role}. ${known.why}`),
      element("p", {}, `${data.quantity[0].toUpperCase()}${data.quantity.slice(1)} ${known.value[0]} (${known.value[1]}). Putting it back undoes ${known.restores[0]} (${known.restores[1]}).`),
      element("p", {}, `Moved in full ${full}, in part ${part}, not at all ${none} of ${full + part + none} pairs.`),
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Pairs of the chosen cell" }, table),
      element("div", { class: "tools" },
        element("button", { type: "button", onclick: () => interpose.download("pairs-" + known.place.replace(/[^\w.-]+/g, "-"), kept([[map, known]])) }, "Download these pairs as CSV"),
        element("button", { type: "button", onclick: () => interpose.download("pairs", kept(data.maps.flatMap((one) => one.cells.map((each) => [one, each])))) }, "Download every cell as CSV")));
    panel.hidden = false;
    panel.setAttribute("aria-label", "The chosen cell, " + known.place);
    hint.setAttribute("role", "status");
    hint.textContent = `${known.place}: its pairs are below.`;
  }

  const heads = [
    ["pair", "The number of the pair"],
    ["base", "The base input"],
    ["source", "The source input"],
    ["Ybb", "Y(base), untouched"],
    ["Yss", "Y(source), untouched"],
    ["Ybs", "Y(base, place from the source)"],
    ["Ysb", "Y(source, place from the base)"],
  ];
  function rowsOf(map, known) {
    return map.pairs.map(([base, source], i) => [i, data.texts[base], data.texts[source], map.ybb[i], map.yss[i], known.ybs[i], known.ysb[i]]);
  }
  function kept(several) {
    const rows = several.flatMap(([map, known]) => rowsOf(map, known).map((row) => [map.subject, known.place, ...row.map((value) => (value === null ? "" : value))]));
    return [["of", "place", ...heads.map(([text]) => text)], ...rows];
  }
};
