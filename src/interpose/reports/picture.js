/* A picture: what is under the pointer, or touched, is told in a line below it. */
interpose.widgets.picture = function (figure) {
  const svg = figure.querySelector("svg");
  if (!svg || svg.querySelectorAll("g > title").length === 0) return;
  const line = interpose.element("p", { class: "told" });
  const tell = (event) => {
    const under = event.target.closest("g:has(> title)");
    line.textContent = under ? under.querySelector(":scope > title").textContent : "";
  };
  svg.addEventListener("pointerover", tell);
  svg.addEventListener("pointerdown", tell);
  figure.append(line);
};
