// A view is a tree of plain objects, and `render` makes the page's elements equal to it. What
// is equal already is not touched: focus, selections and open menus survive each update. Text
// becomes text nodes, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Describe an element: its attributes, its `on…` handlers, a `key` among its siblings. */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: children.flat(Infinity).map(described) };
}

function described(child) {
  if (child === null || child === undefined || child === false) return null;
  return typeof child === "object" ? child : { text: String(child) };
}

const shown = new WeakMap();

/** Make `container` hold exactly `children`. */
export function render(container, ...children) {
  const wanted = children.flat(Infinity).map(described);
  patchChildren(container, shown.get(container) ?? [], wanted);
  shown.set(container, wanted);
}

// Children without a key are told apart by their place, so a place that may be empty holds null.
function nameOf(child, index) {
  return child.props?.key === undefined ? `${index} ${child.tag}` : `key ${child.props.key}`;
}

function patchChildren(parent, before, after) {
  const old = new Map();
  for (const [index, child] of before.entries()) {
    if (child) old.set(nameOf(child, index), child);
  }
  const kept = after.map((child, index) => {
    const name = child && nameOf(child, index);
    const found = child && old.get(name);
    if (found) old.delete(name);
    return found;
  });
  for (const child of old.values()) child.node.remove(); // first, so that the rest stays in place
  let next = parent.firstChild;
  after.forEach((child, index) => {
    if (!child) return;
    if (kept[index]) patch(kept[index], child);
    else create(child, parent);
    if (child.node === next) next = next.nextSibling;
    else parent.insertBefore(child.node, next);
  });
}

function create(child, parent) {
  if (child.tag === undefined) {
    child.node = document.createTextNode(child.text);
    return;
  }
  const inSvg = child.tag === "svg" || parent.namespaceURI === SVG;
  child.node = inSvg ? document.createElementNS(SVG, child.tag) : document.createElement(child.tag);
  patchChildren(child.node, [], child.children);
  for (const [name, value] of Object.entries(child.props)) set(child.node, name, value);
  // What is typed or chosen belongs to the reader from now on.
  if (child.props.value !== undefined && "value" in child.node)
    child.node.value = child.props.value;
}

function patch(before, after) {
  const node = before.node;
  after.node = node;
  if (after.tag === undefined) {
    if (before.text !== after.text) node.data = after.text;
    return;
  }
  for (const name of Object.keys(before.props)) {
    if (!(name in after.props)) set(node, name, null);
  }
  for (const [name, value] of Object.entries(after.props)) {
    if (before.props[name] !== value) set(node, name, value);
  }
  patchChildren(node, before.children, after.children);
}

function set(node, name, value) {
  if (name === "key" || name === "value") return;
  if (name.startsWith("on")) node[name] = value;
  else if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
}
