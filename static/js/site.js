// What every page can do: light or dark, dialogs, the list of keys, keys that press buttons, and plain words when the
// server does not answer. Everything hangs on data- attributes, so that fragments swapped in by htmx need no set-up.
"use strict";

const YEAR_S = 365 * 24 * 3600;
const NEWS_MS = 10_000;
const THEMES = ["auto", "light", "dark"];

/* Light or dark: a cookie, so that the server's first byte already has the right colours. */

function currentTheme() {
  return document.documentElement.dataset.theme || "auto";
}

function nameTheme(button) {
  const words = button.dataset[currentTheme()];
  button.title = words;
  button.setAttribute("aria-label", words);
}

function switchTheme(button) {
  const next = THEMES[(THEMES.indexOf(currentTheme()) + 1) % THEMES.length];
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  document.cookie = `theme=${next}; path=/; max-age=${YEAR_S}; samesite=lax`;
  nameTheme(button);
}

/* Keys rest while somebody types, while a dialog is open, and with a modifier. One that is held presses once: what would
   come next has not been read. */

function isTyping(target) {
  return Boolean(target.closest("input:not([type=radio], [type=checkbox], [type=button]), textarea, select, [contenteditable]"));
}

function keysRest(event) {
  const modified = event.ctrlKey || event.metaKey || event.altKey;
  return event.defaultPrevented || modified || isTyping(event.target) || document.querySelector("dialog[open]");
}

function isSubmitKey(event) {
  return event.key === "Enter" && (event.ctrlKey || event.metaKey);
}

function pressByKey(event) {
  if (isSubmitKey(event)) {
    const form = event.target.closest("form") || document.querySelector("form[data-submit-key]");
    const button = form?.querySelector("button[data-submits]");
    if (button && !button.disabled) {
      event.preventDefault();
      if (!event.repeat) button.click();
    }
  } else if (event.key === "Escape" && isTyping(event.target)) {
    event.target.blur();
  } else if (!keysRest(event)) {
    if (event.key === "?") openDialog(document.getElementById("keys"));
    const key = CSS.escape(event.key.toLowerCase());
    // In a row with keys of its own they come first: each row has the same ones.
    const near = event.target.closest("[data-keys]")?.querySelector(`[data-near-key="${key}"]`);
    const wanted = near || document.querySelector(`[data-key="${key}"]`);
    if (wanted && !wanted.disabled) {
      event.preventDefault();
      if (!event.repeat) wanted.click();
    }
  }
}

/* Dialogs */

let pressed = null; // the newest pointerdown

function openDialog(dialog) {
  dialog.showModal();
  placeTrouble();
}

function isBeside(dialog, { clientX, clientY }) {
  const { left, right, top, bottom } = dialog.getBoundingClientRect();
  return clientX < left || clientX > right || clientY < top || clientY > bottom;
}

/* Pressed and let go on the backdrop: text that is selected with the mouse may end there. */
function isClickBeside(dialog, event) {
  return [pressed, event].every((each) => each?.target === dialog && isBeside(dialog, each));
}

function openOrClose(event) {
  const opener = event.target.closest("[data-opens]");
  const closer = event.target.closest("[data-closes]");
  const hider = event.target.closest("[data-hides]");
  const theme = event.target.closest("[data-theme-switch]");
  if (opener) openDialog(document.getElementById(opener.dataset.opens));
  if (closer) closer.closest("dialog").close();
  if (hider) document.getElementById(hider.dataset.hides).hidden = true;
  if (theme) switchTheme(theme);
  // A click beside the dialog closes it; a menu closes when the click was elsewhere.
  if (event.target.matches("dialog[open]") && isClickBeside(event.target, event)) event.target.close();
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
}

/* Trouble in plain words. */

/* Beside an open dialog nothing can be pressed, so the notice lies in it as long as it is open. */
function placeTrouble() {
  (document.querySelector("dialog[open]") || document.body).append(document.getElementById("trouble"));
}

function tellTrouble(kind) {
  const box = document.getElementById("trouble");
  box.querySelector("p").textContent = box.dataset[kind];
  box.querySelector("a").hidden = kind !== "signedOut";
  box.hidden = false;
  placeTrouble();
}

function hideTrouble() {
  const box = document.getElementById("trouble");
  box.hidden = true;
  document.body.append(box); // the dialog that it lies in may be swapped out
}

function isLogin(address) {
  return new URL(address, location.href).pathname.endsWith("/account/login/");
}

/* What fragments bring along */

document.addEventListener("htmx:load", (event) => {
  for (const news of event.target.querySelectorAll("[data-vanishes]")) setTimeout(() => news.remove(), NEWS_MS);
  const dialog = event.target.querySelector("dialog[data-open-at-once]");
  if (dialog) openDialog(dialog);
});

/* What a reader has opened stays open when the page renews itself. */

const served = new Map(); // id of a <details> -> whether the server sent it open
const opened = new Map(); // the same for those that the reader has opened or closed

document.addEventListener("htmx:beforeSwap", (event) => {
  for (const part of event.target.querySelectorAll("details[data-keeps-open]")) {
    if (part.open === served.get(part.id)) opened.delete(part.id);
    else opened.set(part.id, part.open);
  }
});
document.addEventListener("htmx:load", (event) => {
  for (const part of event.target.querySelectorAll("details[data-keeps-open]")) {
    served.set(part.id, part.open);
    if (opened.has(part.id)) part.open = opened.get(part.id);
  }
});

/* On a phone the links of a project scroll: the page at hand comes into view. */

document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

document.addEventListener("pointerdown", (event) => {
  pressed = event;
});
document.addEventListener("click", openOrClose);
document.addEventListener("close", placeTrouble, { capture: true }); // of a dialog, which does not bubble
document.addEventListener("keydown", pressByKey);
for (const button of document.querySelectorAll("[data-theme-switch]")) nameTheme(button);
if (/Mac|iPhone|iPad/.test(navigator.platform)) {
  const rename = (root) => {
    for (const key of root.querySelectorAll("kbd[data-mac]")) key.textContent = key.dataset.mac;
  };
  document.addEventListener("htmx:load", (event) => rename(event.target));
}
document.addEventListener("htmx:configRequest", (event) => {
  // Signing in again in another tab renews the token, so the cookie knows better than the page.
  const token = csrfToken();
  if (token) event.detail.headers["X-CSRFToken"] = token;
});
document.addEventListener("htmx:sendError", () => tellTrouble("offline"));
document.addEventListener("htmx:timeout", () => tellTrouble("offline"));
document.addEventListener("htmx:responseError", (event) => {
  // On a page with a draft, to reload would lose the text.
  const refused = document.querySelector("form[data-draft]") ? "refusedText" : "refused";
  tellTrouble(event.detail.xhr.status >= 500 ? "failed" : refused);
});
document.addEventListener("htmx:beforeSwap", (event) => {
  if (isLogin(event.detail.xhr.responseURL)) {
    event.detail.shouldSwap = false;
    tellTrouble("signedOut");
  } else if (event.detail.shouldSwap) {
    hideTrouble();
  }
});
