// What people read: code is copied by a button, a long prompt opens in place, and what scrolls can be reached by keyboard.
"use strict";

/* Code */

function addCopyButtons(root) {
  const template = document.getElementById("copy-code");
  for (const head of root.querySelectorAll(".code-head")) {
    if (!head.querySelector("button")) head.append(template.content.cloneNode(true));
  }
}

async function copyCode(button) {
  const code = button.closest(".code").querySelector("code");
  let words = button.dataset.done;
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // Plain http away from localhost has no clipboard: the code is marked for Ctrl+C.
    getSelection().selectAllChildren(code);
    words = button.dataset.marked;
  }
  button.textContent = words;
  document.getElementById("spoken").textContent = words;
}

/* Formulas take the focus only where they are wider than their box: there, the arrow keys scroll them. */

function makeReachable(root) {
  for (const box of root.querySelectorAll(".formula, .formula-long")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

/* A long prompt */

function describePrompt(text) {
  const prompt = text.closest(".prompt");
  const opener = prompt.querySelector("[data-opens-prompt]");
  const isOpen = prompt.classList.contains("is-open");
  const below = text.scrollHeight - text.clientHeight - text.scrollTop;
  opener.hidden = !isOpen && text.scrollHeight <= text.clientHeight + 1;
  prompt.classList.toggle("is-cut-above", !isOpen && text.scrollTop > 1);
  prompt.classList.toggle("is-cut-below", !isOpen && below > 1);
}

function openOrClosePrompt(opener) {
  const prompt = opener.closest(".prompt");
  const isOpen = prompt.classList.toggle("is-open");
  [opener.textContent, opener.dataset.less] = [opener.dataset.less, opener.textContent];
  opener.setAttribute("aria-expanded", isOpen);
  describePrompt(prompt.querySelector("[data-prompt]"));
  if (!isOpen) prompt.scrollIntoView({ block: "nearest" });
}

function describePrompts() {
  for (const text of document.querySelectorAll("[data-prompt]")) describePrompt(text);
}

document.addEventListener("htmx:load", (event) => {
  addCopyButtons(event.target);
  makeReachable(event.target);
  describePrompts();
});
addEventListener("resize", () => {
  makeReachable(document);
  describePrompts();
});
document.addEventListener(
  "scroll",
  (event) => {
    if (event.target instanceof Element && event.target.matches("[data-prompt]")) describePrompt(event.target);
  },
  { capture: true, passive: true },
);
document.addEventListener("change", () => requestAnimationFrame(describePrompts)); // rendered, or exactly as typed
document.addEventListener("click", (event) => {
  const copier = event.target.closest("[data-copies-code]");
  const opener = event.target.closest("[data-opens-prompt]");
  if (copier) copyCode(copier);
  if (opener) openOrClosePrompt(opener);
});
// What takes the focus can be seen: an answer that is folded opens when the focus enters its text.
document.addEventListener("focusin", (event) => {
  if (!event.target.closest("[data-answer-text]")) return;
  event.target.closest(".is-folded")?.querySelector("[data-open-text]")?.click();
});
