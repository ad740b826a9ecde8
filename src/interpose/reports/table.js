/* A table: sorted by its heads, long ones in part until asked for, kept as CSV. */
interpose.widgets.table = function (figure, data) {
  const table = figure.querySelector("table");
  const rows = () => [...table.tBodies[0].rows];
  let all = rows().length <= data.shown;
  const tools = interpose.element("div", { class: "tools" });
  const fold = () => rows().forEach((row, k) => row.classList.toggle("more", !all && k >= data.shown));
  const original = interpose.rowsOf(table);
  interpose.sortable(table, fold);
  if (!all) {
    const label = () => (all ? `Show the first ${data.shown} rows` : `Show all ${rows().length} rows`);
    const button = interpose.element("button", { type: "button", "aria-expanded": "false" });
    const press = () => { button.textContent = label(); button.setAttribute("aria-expanded", String(all)); fold(); };
    button.addEventListener("click", () => { all = !all; press(); });
    press();
    tools.append(button);
  }
  tools.append(interpose.element("button", { type: "button", onclick: () => interpose.download(data.file, original) }, "Download as CSV"));
  figure.append(tools);
};
