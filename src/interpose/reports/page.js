"use strict";
/* What every figure of the page shares, and how they start. Scripts of single kinds follow; each sets its own name in
   interpose.widgets. All text is set as text, never as markup. */
const interpose = { widgets: {} };
window.interpose = interpose;

interpose.element = function (name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "onclick") made.addEventListener("click", value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
};

/* A number as it is read: four digits that count, a real minus, and a dash for what is not there. */
interpose.number = function (value) {
  if (value === null || value === undefined) return "–";
  const rounded = Number(value.toPrecision(4));
  const large = Math.abs(rounded) >= 1e6 || (rounded !== 0 && Math.abs(rounded) < 1e-4);
  const text = large ? rounded.toExponential() : String(Object.is(rounded, -0) ? 0 : rounded);
  return text.replace("-", "−");
};

/* Rows of text as CSV. What a spreadsheet would take for a formula is marked as text; numbers stay numbers. */
interpose.csv = function (rows) {
  const cell = (value) => {
    let text = String(value).replace(/−/g, "-");
    const isNumber = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text);
    if (!isNumber && /^\s*[=+\-@\t\r\n＝＋－＠|%]/.test(text) && text !== "-") text = "'" + text;
    return /[",\r\n]/.test(text) || text !== text.trim() ? '"' + text.replace(/"/g, '""') + '"' : text;
  };
  return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
};

interpose.download = function (name, rows) {
  const url = URL.createObjectURL(new Blob(["\ufeff" + interpose.csv(rows)], { type: "text/csv;charset=utf-8" }));
  const link = interpose.element("a", { href: url, download: name + ".csv" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
};

interpose.rowsOf = function (table) {
  return [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent));
};

/* Heads become buttons that sort: numbers by size, intervals by their first number, words as people do. */
interpose.sortable = function (table, changed) {
  const order = new Intl.Collator("en", { numeric: true }).compare;
  const first = (text) => {
    const found = /^[\[(<≥>=\s]*([+\-−]?\d[\d,]*\.?\d*(?:e[+-]?\d+)?)/i.exec(text);
    return found ? Number(found[1].replace("−", "-").replace(/,/g, "")) : NaN;
  };
  const empty = (text) => ["", "-", "–", "undefined"].includes(text.trim());
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, k) => {
    const press = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => ({ row, text: row.cells[k].textContent }));
      const there = rows.filter(({ text }) => !empty(text));
      const numeric = there.every(({ text }) => !Number.isNaN(first(text)));
      const compare = numeric ? (a, b) => first(a.text) - first(b.text) || order(a.text, b.text) : (a, b) => order(a.text, b.text);
      there.sort((a, b) => (down ? compare(b, a) : compare(a, b)));
      body.append(...there.map(({ row }) => row), ...rows.filter(({ text }) => empty(text)).map(({ row }) => row));
      if (changed) changed();
    };
    const button = interpose.element("button", { type: "button", onclick: press }, ...head.childNodes);
    head.replaceChildren(button);
  });
};

/* Light and dark: as the system says, until a reader says otherwise. */
interpose.theme = function () {
  const root = document.documentElement;
  const dark = () => root.dataset.theme === "dark" || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  const button = interpose.element("button", { type: "button", class: "theme" });
  const say = () => { button.textContent = dark() ? "Light page" : "Dark page"; };
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; say(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", say);
  say();
  document.querySelector("header").append(button);
};

document.addEventListener("DOMContentLoaded", () => {
  interpose.theme();
  for (const figure of document.querySelectorAll("figure.widget")) {
    const data = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
    try {
      interpose.widgets[figure.dataset.kind](figure, data);
    } catch (error) {
      console.error(error);
    }
  }
});
