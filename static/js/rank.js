// The ranking board. The radio buttons below the answers are the ranking; keys, arrows and dragging only press them, and
// the answers stand in the order that they say. So one form is submitted, drafted and restored, however it was filled.
"use strict";

const UNPLACED = 98;
const UNJUDGED = 99;

class Board {
  constructor(form) {
    this.form = form;
    this.list = form.querySelector("[data-answers]");
    this.submit = form.querySelector(".buttons [data-submits]"); // not the one in the question about an unchanged order
    this.cards = [...this.list.children].sort((a, b) => a.dataset.answer.localeCompare(b.dataset.answer));
    form.addEventListener("change", (event) => this.changed(event));
    form.addEventListener("draft:filled", () => this.sort());
    form.addEventListener("click", (event) => this.clicked(event));
    this.showView(localStorage.getItem("answers-as") || "rendered");
    this.followPointer();
    this.describe();
    const prompt = document.querySelector("[data-prompt]");
    prompt.scrollTop = prompt.scrollHeight; // of a long conversation, the question that is to be answered
    const confirm = form.querySelector("[data-confirm] [data-submits]");
    if (confirm) confirm.focus({ preventScroll: true });
    else if (matchMedia("(pointer: fine)").matches) this.mark(this.cards[0]);
  }

  /* Places: read from and written to the radio buttons */

  radios(card) {
    return [...card.querySelectorAll(".pick input")];
  }

  place(card) {
    const value = this.radios(card).find((radio) => radio.checked)?.value;
    return value === undefined ? UNPLACED : value === "none" ? UNJUDGED : Number(value);
  }

  setPlace(card, place) {
    for (const radio of this.radios(card)) {
      radio.checked = radio.value === (place === UNJUDGED ? "none" : String(place));
    }
  }

  isPlaced(card) {
    return this.place(card) < UNPLACED;
  }

  get shown() {
    return [...this.list.children];
  }

  get marked() {
    return document.activeElement?.closest("[data-answer]");
  }

  mark(card, options = { preventScroll: true }) {
    const radios = this.radios(card);
    (radios.find((radio) => radio.checked) || radios[0]).focus(options);
  }

  /* Everything that changes a place ends here. */

  changed(event) {
    if (event.target.matches("[data-view]")) return this.showView(event.target.value);
    if (event.target.closest(".pick")) this.sort();
    return undefined;
  }

  report() {
    this.form.dispatchEvent(new Event("change", { bubbles: true }));
  }

  sort() {
    const focused = document.activeElement;
    const before = new Map(this.cards.map((card) => [card, card.getBoundingClientRect()]));
    const order = [...this.cards].sort((a, b) => this.place(a) - this.place(b));
    if (order.some((card, n) => card !== this.list.children[n])) this.list.append(...order);
    if (this.list.contains(focused)) focused.focus({ preventScroll: true });
    this.slide(before);
    this.form.querySelector("[data-confirm]")?.remove();
    this.describe();
  }

  /* Motion explains who went where. */
  slide(before) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const card of this.cards) {
      const from = before.get(card);
      const to = card.getBoundingClientRect();
      const [x, y] = [from.left - to.left, from.top - to.top];
      if (!x && !y) continue;
      card.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: 180, easing: "ease-out" });
    }
  }

  describe() {
    const places = this.cards.map((card) => this.place(card));
    this.cards.forEach((card, n) => {
      const told = card.querySelector("[data-place]");
      const isTie = places[n] < UNPLACED && places.filter((place) => place === places[n]).length > 1;
      card.dataset.state = places[n] === UNPLACED ? "unplaced" : places[n] === UNJUDGED ? "unjudged" : "placed";
      if (places[n] === UNPLACED) told.textContent = told.dataset.unplaced;
      else if (places[n] === UNJUDGED) told.textContent = told.dataset.unjudged;
      else told.textContent = isTie ? `${places[n]} · ${told.dataset.tie}` : places[n];
    });
    this.submit.disabled = places.includes(UNPLACED);
  }

  /* Keys */

  key(event) {
    const card = this.marked;
    const key = event.key;
    const lettered = this.cards.find((each) => each.dataset.answer === key.toUpperCase());
    if (lettered && !event.shiftKey) this.mark(lettered, {});
    else if (!card) return;
    else if (/^[0-9]$/.test(key) && Number(key) <= this.cards.length) this.placeAndGoOn(card, Number(key) || UNJUDGED);
    else if (key === "Backspace" || key === "Delete") this.take(card);
    else if (event.shiftKey && ["ArrowLeft", "ArrowUp"].includes(key)) this.move(card, -1);
    else if (event.shiftKey && ["ArrowRight", "ArrowDown"].includes(key)) this.move(card, 1);
    else return;
    event.preventDefault();
  }

  placeAndGoOn(card, place) {
    this.setPlace(card, place);
    this.sort();
    this.report();
    const from = this.cards.indexOf(card);
    const waiting = [...this.cards.slice(from + 1), ...this.cards.slice(0, from)].find((each) => this.place(each) === UNPLACED);
    this.mark(waiting || card, {});
  }

  take(card) {
    for (const radio of this.radios(card)) radio.checked = false;
    this.sort();
    this.report();
    this.mark(card, {});
  }

  /* One step better or worse, past the neighbour. */
  move(card, step) {
    const order = this.shown;
    const from = order.indexOf(card);
    const to = from + step;
    if (to < 0 || to >= order.length) return;
    order.splice(from, 1);
    order.splice(to, 0, card);
    this.dropped(card, order);
    this.mark(card, {});
  }

  /* Dragging */

  followPointer() {
    Sortable.create(this.list, {
      handle: "[data-grip]",
      animation: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 160,
      forceFallback: true, // the browser's own drag image is a pale ghost and does not scroll the page on touch screens
      fallbackTolerance: 4,
      ghostClass: "is-target",
      dragClass: "is-dragged",
      onEnd: ({ item, oldIndex, newIndex }) => {
        if (oldIndex !== newIndex || !this.isPlaced(item)) this.dropped(item, this.shown);
      },
    });
  }

  /* `card` was put where `order` shows it: it and everything before it has a place now, and ties that it did not touch
     stay ties. An answer that is left alone at the end has only the last place left, so it gets that. */
  dropped(card, order) {
    const until = order.indexOf(card);
    const rest = order.slice(until + 1).filter((each) => this.place(each) === UNPLACED);
    const taking = order.filter((each, n) => n <= until || this.isPlaced(each) || (rest.length === 1 && each === rest[0]));
    let place = 0;
    let last = null;
    for (const each of taking) {
      const was = each === card || !this.isPlaced(each) ? null : this.place(each);
      if (was === null || was !== last) place += 1;
      last = was;
      each.dataset.newPlace = place;
    }
    for (const each of taking) this.setPlace(each, Number(each.dataset.newPlace));
    this.sort();
    this.report();
  }

  clicked(event) {
    const mover = event.target.closest("[data-move]");
    const opener = event.target.closest("[data-open-text]");
    if (mover) this.move(mover.closest("[data-answer]"), Number(mover.dataset.move));
    if (opener) {
      opener.hidden = true;
      opener.closest("[data-answer]").classList.replace("is-folded", "is-opened");
    }
  }

  /* Texts */

  showView(view) {
    this.form.dataset.as = view;
    localStorage.setItem("answers-as", view);
    for (const radio of this.form.querySelectorAll("[data-view]")) radio.checked = radio.value === view;
    this.foldLongTexts();
  }

  toggleView() {
    this.showView(this.form.dataset.as === "raw" ? "rendered" : "raw");
  }

  foldLongTexts() {
    for (const card of this.cards) {
      const text = card.querySelector("[data-answer-text]");
      const opener = card.querySelector("[data-open-text]");
      if (card.classList.contains("is-opened")) continue;
      card.classList.add("is-folded");
      const isLong = text.scrollHeight > text.clientHeight + 48; // not worth a button for two more lines
      card.classList.toggle("is-folded", isLong);
      opener.hidden = !isLong;
    }
  }
}

let board = null;

document.addEventListener("htmx:load", (event) => {
  const form = event.target.querySelector("form[data-ranking]");
  if (form) board = new Board(form);
});
// Before the keys of the page's buttons: on the board, a letter is an answer's.
document.addEventListener(
  "keydown",
  (event) => {
    if (!board?.form.isConnected || keysRest(event)) return;
    if (event.key.toLowerCase() === "m") board.toggleView();
    else board.key(event);
  },
  { capture: true },
);
