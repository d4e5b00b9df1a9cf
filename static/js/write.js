// The sheet on which an answer is written: its length, a preview, a box that grows with the text.
"use strict";

function startWriting(form) {
  const text = form.querySelector("textarea[name=text]");
  const counter = form.querySelector("[data-words]");
  const preview = form.querySelector("[data-preview]");
  const modes = [...form.querySelectorAll("[data-mode]")];

  function count() {
    const words = text.value.trim() ? text.value.trim().split(/\s+/).length : 0;
    counter.textContent = words === 1 ? counter.dataset.one : counter.dataset.many.replace("%s", words.toLocaleString());
    // Browsers without field-sizing grow the box by hand.
    if (!CSS.supports("field-sizing", "content")) {
      text.style.height = "auto";
      text.style.height = `${text.scrollHeight + 2}px`;
    }
  }

  async function show(mode) {
    const isPreview = mode.value === "preview";
    if (isPreview) preview.style.minHeight = `${text.offsetHeight}px`; // nothing below jumps
    text.hidden = isPreview;
    preview.hidden = !isPreview;
    if (!isPreview) return text.focus();
    preview.setAttribute("aria-busy", "true");
    await htmx.ajax("POST", mode.dataset.previewUrl, { target: preview, swap: "innerHTML", values: { text: text.value } });
    preview.removeAttribute("aria-busy");
  }

  for (const mode of modes) mode.addEventListener("change", (event) => (event.stopPropagation(), show(mode)));
  text.addEventListener("input", count);
  form.addEventListener("draft:filled", count);
  form.addEventListener("press:preview", () => {
    const other = modes.find((mode) => !mode.checked);
    other.checked = true;
    show(other);
  });
  count();
  if (matchMedia("(pointer: fine)").matches) text.focus({ preventScroll: true });
}

document.addEventListener("htmx:load", (event) => {
  for (const form of event.target.querySelectorAll("form[data-writing]")) startWriting(form);
});
document.addEventListener("keydown", (event) => {
  if (keysRest(event) || event.repeat || event.key.toLowerCase() !== "p") return;
  const form = document.querySelector("form[data-writing]");
  if (!form) return;
  event.preventDefault();
  form.dispatchEvent(new CustomEvent("press:preview"));
});
