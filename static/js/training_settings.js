// The page of training settings: what differs from the preset is marked while one types, “Reset to preset” puts its value
// back, the bar counts what is not saved yet, and a link to a folded setting opens its fold.
"use strict";

const form = document.querySelector("[data-settings-form]");
const told = form.querySelector("[data-unsaved]");
const hint = told.textContent;

function isAsPreset(input) {
  const { preset } = input.dataset;
  return input.value === "" || input.value === preset || (input.type === "number" && Number(input.value) === Number(preset));
}

function isUnsaved(input) {
  if (input.disabled) return false;
  if (input.tagName === "SELECT") return ![...input.options].find((option) => option.selected)?.defaultSelected;
  return input.value !== input.defaultValue;
}

function inputs() {
  return [...form.querySelectorAll("[data-preset]")];
}

function tellUnsaved() {
  const number = inputs().filter(isUnsaved).length;
  told.textContent = number ? told.dataset.unsaved.replace("%s", number) : hint;
  form.classList.toggle("is-unsaved", number > 0);
}

function mark(input) {
  input.closest("[data-setting]").querySelector(".setting-differs").hidden = isAsPreset(input);
  tellUnsaved();
}

function reset(event) {
  const button = event.target.closest("[data-resets]");
  if (!button) return;
  event.preventDefault();
  const input = document.getElementById(button.dataset.resets);
  input.value = input.dataset.preset;
  mark(input);
  input.focus();
}

function unfold() {
  const target = document.getElementById(location.hash.slice(1));
  if (!target) return;
  const fold = target.closest("details");
  if (fold) fold.open = true;
  if (target.matches("[data-setting]")) target.querySelector("[data-preset]").focus({ preventScroll: true });
  target.scrollIntoView({ block: "start" });
}

form.addEventListener("input", (event) => {
  if (event.target.matches("[data-preset]")) mark(event.target);
});
form.addEventListener("click", reset);
addEventListener("hashchange", unfold);
addEventListener("beforeunload", (event) => {
  if (form.classList.contains("is-unsaved")) event.preventDefault();
});
form.addEventListener("submit", () => form.classList.remove("is-unsaved"));
addEventListener("load", unfold); // the browser's own way to the target comes before, and takes the cursor away
tellUnsaved();
