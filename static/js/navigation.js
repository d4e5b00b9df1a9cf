// Going places by keys: G and then a letter opens a page of the bar, P its projects. In an open menu the arrows move,
// digits choose and Esc closes. Without JavaScript the menus are plain lists that open by themselves.
"use strict";

const SECOND_KEY_MS = 1500;
let secondKeyUntil = 0;

/* On a board with seven answers or more, G is an answer's. */
function isLeader(event) {
  return event.key.toLowerCase() === "g" && !event.shiftKey && !document.querySelector('[data-answer="G"]');
}

function goTo(letter) {
  const target = document.querySelector(`[data-go="${CSS.escape(letter)}"]`);
  if (!target) return false;
  if (target.matches("summary")) {
    target.parentElement.open = true;
    target.focus();
  } else target.click();
  return true;
}

function useMenu(menu, event) {
  const entries = [...menu.querySelectorAll("a, button")];
  const at = entries.indexOf(document.activeElement);
  const steps = { ArrowDown: at + 1, ArrowUp: at < 0 ? -1 : at - 1, Home: 0, End: -1 };
  if (event.key in steps) entries.at(steps[event.key] % entries.length).focus();
  else if (event.key === "Escape") {
    menu.open = false;
    menu.querySelector("summary").focus();
  } else {
    const chosen = menu.querySelector(`[data-digit="${CSS.escape(event.key)}"]`);
    chosen?.click();
    return Boolean(chosen);
  }
  return true;
}

function navigateByKey(event) {
  if (keysRest(event)) return;
  const menu = document.querySelector("details.menu[open]");
  const isSecond = event.timeStamp < secondKeyUntil;
  secondKeyUntil = 0;
  if ((menu && useMenu(menu, event)) || (isSecond && goTo(event.key.toLowerCase()))) {
    event.preventDefault();
    event.stopImmediatePropagation();
  } else if (isLeader(event)) secondKeyUntil = event.timeStamp + SECOND_KEY_MS;
}

// Before every other key of the page: what follows G, and what is pressed in a menu, is nothing else.
document.addEventListener("keydown", navigateByKey, { capture: true });
