// The bar of PPO's steps by keyboard: one stop of the Tab key, arrows between the cells, Home and End to its ends.
"use strict";

let lastStep = ""; // the id of the cell that has the focus, or had it last

function cells() {
  return [...document.querySelectorAll("[data-steps] a")];
}

function makeOneStop() {
  const all = cells();
  const stop = all.find((cell) => cell.id === lastStep) || all[all.length - 1];
  for (const cell of all) cell.tabIndex = cell === stop ? 0 : -1;
}

function moveByKey(event) {
  const here = event.target.closest("[data-steps] a");
  if (!here) return;
  const all = cells();
  const at = all.indexOf(here);
  const next = { ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1, Home: 0, End: all.length - 1 }[event.key];
  if (next === undefined || !all[next]) return;
  event.preventDefault();
  all[next].focus();
}

document.addEventListener("keydown", moveByKey);
document.addEventListener("focusin", (event) => {
  const cell = event.target.closest("[data-steps] a");
  if (!cell) return;
  lastStep = cell.id;
  makeOneStop();
});
document.addEventListener("htmx:afterSettle", (event) => {
  makeOneStop();
  if (event.target.id === "samples") document.getElementById("samples-title")?.focus();
});
makeOneStop();
