// Shows, under the pointer, the nearest point of every line of a chart. Texts are only ever set
// as text, never as markup.
const tip = document.getElementById("tip");

function nearest(points, x) {
  let best = points[0];
  for (const point of points) {
    if (Math.abs(point[0] - x) < Math.abs(best[0] - x)) best = point;
  }
  return best;
}

function row(colour, text) {
  const line = document.createElement("div");
  if (colour !== null) {
    const swatch = document.createElement("span");
    swatch.className = "swatch c" + colour;
    line.append(swatch);
  }
  line.append(text);
  return line;
}

for (const svg of document.querySelectorAll("svg[data-lines]")) {
  const lines = JSON.parse(svg.dataset.lines).filter((line) => line.points.length > 0);
  const ruler = svg.querySelector(".ruler");
  const hide = () => {
    tip.hidden = true;
    ruler.setAttribute("visibility", "hidden");
  };
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("pointermove", (event) => {
    if (lines.length === 0) return;
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) * svg.viewBox.baseVal.width) / box.width;
    const found = lines.map((line) => [line, nearest(line.points, x)]);
    const [, first] = found.reduce((a, b) =>
      Math.abs(a[1][0] - x) <= Math.abs(b[1][0] - x) ? a : b,
    );
    // A line that ends long before the pointer has nothing to say there.
    const near = found.filter(([, point]) => Math.abs(point[0] - first[0]) < 30);
    tip.replaceChildren(
      row(null, first[2]),
      ...near.map(([line, point]) => row(line.colour, line.name + ": " + point[3])),
    );
    ruler.setAttribute("x1", first[0]);
    ruler.setAttribute("x2", first[0]);
    ruler.setAttribute("visibility", "visible");
    tip.hidden = false;
    const left = event.clientX + 16 + tip.offsetWidth;
    const beside = left > innerWidth ? event.clientX - 16 - tip.offsetWidth : event.clientX + 16;
    tip.style.left = Math.max(4, beside) + "px";
    tip.style.top = Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 4) + "px";
  });
}
