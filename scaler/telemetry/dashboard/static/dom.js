// Builds and updates elements. Text is always set as text: the page never parses a workload's text as HTML.

/** Create an element: `el("td", {class: "n", title: t}, "text", child)`. Attributes that are null or false are omitted. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

/** Set an element's text if it differs: an unchanged text must not disturb selections and screen readers. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set the children of `parent`, in order, and move only the ones out of place. */
export function arrange(parent, children) {
  let at = parent.firstChild;
  for (const child of children) {
    if (child === at) at = at.nextSibling;
    else parent.insertBefore(child, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

export const badge = (state) => el("span", { class: `badge s-${state.toLowerCase().replaceAll(" ", "-")}` }, state);

/** Return a name that wraps after its dots and underscores, and nowhere else. */
export const name = (text) => el("span", { class: "name" }, ...text.split(/(?<=[._])/).flatMap((part) => [part, el("wbr")]));

/** Return a table in a box that scrolls sideways by touch and by keyboard where it is wider than its place. */
export function scrolling(label, table) {
  return el("div", { class: "scroll", role: "region", "aria-label": label, tabindex: 0 }, table);
}

export const head = (...columns) => el("thead", {}, el("tr", {},
  ...columns.map(([text, kind, hint]) => el("th", { scope: "col", class: kind || null, title: hint }, text))));
