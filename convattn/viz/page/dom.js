// Elements in one call. Text is only ever set as text, so that nothing in a name can become markup.

/** An element with properties, attributes (those with a dash, and role), listeners (on...), and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

let given = 0;

/** An id that no other element has. */
export function freshId(word) {
  given += 1;
  return `${word}-${given}`;
}

/** A labelled list of choices [value, text]; gives {element, select}. */
export function choiceOf(label, choices, value, onchange) {
  const id = freshId("choice");
  const select = make("select", { id, onchange: () => onchange(select.value) });
  for (const [each, text] of choices) select.append(make("option", { value: each, selected: each === value }, text));
  return { element: make("label", { className: "field", for: id }, make("span", {}, label), select), select };
}

/** Buttons of which one is pressed, [value, text]; gives {element, press(value), show(values)}. */
export function buttonsOf(label, choices, onchange) {
  const buttons = choices.map(([value, text, title]) => make("button", {
    type: "button", title: title ?? "", "aria-pressed": "false", onclick: () => onchange(value),
  }, text));
  const group = make("div", { className: "buttons", role: "group", "aria-label": label }, ...buttons);
  return {
    element: make("div", { className: "field" }, make("span", { "aria-hidden": "true" }, label), group),
    press: (value) => choices.forEach(([each], i) => buttons[i].setAttribute("aria-pressed", String(each === value))),
    enable: (values) => choices.forEach(([each], i) => { buttons[i].disabled = !values.includes(each); }),
  };
}

/** Whether one uses a finger, which cannot hover. */
export function isTouched() {
  return matchMedia("(hover: none)").matches;
}

/** Numbers of an element's place in the page. */
export function placeIn(element, event) {
  const box = element.getBoundingClientRect();
  return [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
}
