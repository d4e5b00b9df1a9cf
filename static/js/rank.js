// The ranking board. The radio buttons below the answers are the ranking; keys, arrows and dragging only press them, and
// the answers stand in the order that they say. So one form is submitted, drafted and restored, however it was filled.
"use strict";

/* What comes behind the ranked ones: that which has no place yet, and that which cannot be judged. */
const UNRANKED = 98;
const UNJUDGED = 99;
const MARGIN = 8; // pixels around the answer that is looked at

/* `places` without holes, as they are stored: each is one more than the number of better places that are taken, so
   4 4 2 2 becomes 2 2 1 1; null ("cannot judge") stays. The same function as `dense_places` on the server: both are held
   to tests/dense_places.json. */
function densePlaces(places) {
  const taken = [...new Set(places.filter((place) => place !== null))].sort((a, b) => a - b);
  return places.map((place) => (place === null ? null : taken.indexOf(place) + 1));
}

/* `places` (card -> place) of the others, once `card` has left: a place that nobody has any more is closed. */
function withoutCard(places, card) {
  const left = places.get(card);
  const others = [...places].filter(([other]) => other !== card);
  const isClosed = left !== undefined && others.every(([, place]) => place !== left);
  return new Map(others.map(([other, place]) => [other, isClosed && place > left ? place - 1 : place]));
}

/* `others` and `card`, which has `place` to itself: who was there goes one down, and so do those behind, as far as it
   takes to reach a place that is free. Where there is none any more, the holes before it are closed. */
function withInserted(others, card, place, last) {
  const taken = new Set(others.values());
  let free = place;
  while (taken.has(free)) free += 1;
  const places = new Map([...others].map(([other, at]) => [other, at >= place && at < free ? at + 1 : at]));
  places.set(card, place);
  if (Math.max(...places.values()) <= last) return places;
  const dense = densePlaces([...places.values()]);
  return new Map([...places.keys()].map((each, n) => [each, dense[n]]));
}

class Board {
  constructor(form) {
    this.form = form;
    this.submit = form.querySelector(".buttons [data-submits]"); // not the one in the question about an unchanged order
    this.cards = [...form.querySelectorAll("[data-answer]")];
    this.cards.sort((a, b) => a.dataset.answer.localeCompare(b.dataset.answer));
    this.prompt = document.querySelector("[data-prompt]");
    // In the capturing phase: before the draft or the request reads the form.
    form.addEventListener("change", (event) => this.changed(event), { capture: true });
    form.addEventListener("submit", (event) => this.handedIn(event), { capture: true });
    form.addEventListener("draft:filled", () => this.filled());
    form.addEventListener("click", (event) => this.clicked(event));
    this.dragging = new Dragging(form, (card, target) => this.dropped(card, target));
    this.showView(localStorage.getItem("answers-as") || "rendered");
    this.arrange();
    this.prompt.scrollTop = this.prompt.scrollHeight; // of a long conversation, the question that is to be answered
    const confirm = form.querySelector("[data-confirm] [data-submits]");
    if (confirm) confirm.focus({ preventScroll: true });
    else if (matchMedia("(pointer: fine)").matches) this.mark(this.nextAfter(-1) || this.cards[0]);
  }

  /* Places: read from and written to the radio buttons */

  radios(card) {
    return [...card.querySelectorAll(".pick input")];
  }

  place(card) {
    const value = this.radios(card).find((radio) => radio.checked)?.value;
    return value === undefined ? UNRANKED : value === "none" ? UNJUDGED : Number(value);
  }

  setPlace(card, place) {
    for (const radio of this.radios(card)) {
      radio.checked = radio.value === (place === UNJUDGED ? "none" : String(place));
    }
  }

  isRanked(card) {
    return this.place(card) < UNRANKED;
  }

  /* card -> place, of those that have one */
  get ranked() {
    return new Map(this.cards.filter((card) => this.isRanked(card)).map((card) => [card, this.place(card)]));
  }

  get marked() {
    return document.activeElement?.closest("[data-answer]");
  }

  mark(card) {
    const radios = this.radios(card);
    (radios.find((radio) => radio.checked) || radios[0]).focus({ preventScroll: true });
  }

  /* The first card behind the `from`th that has no place yet, going round. */
  nextAfter(from) {
    return [...this.cards.slice(from + 1), ...this.cards.slice(0, from + 1)].find((card) => this.place(card) === UNRANKED);
  }

  markAndShow(card) {
    this.mark(card);
    void this.show(card);
  }

  /* Scroll until a card is seen between the prompt above and the bar below: where it comes to stand, not where it slides
     past, which is what the browser would go by. */
  async show(card) {
    await Promise.allSettled(card.getAnimations().map((animation) => animation.finished));
    const { top, bottom } = card.getBoundingClientRect();
    const ceiling = Math.max(0, this.prompt.getBoundingClientRect().bottom) + MARGIN;
    const bars = [...this.form.querySelectorAll(".action-bar, .desk-actions")];
    const floor = Math.min(innerHeight, ...bars.map((bar) => bar.getBoundingClientRect().top)) - MARGIN;
    if (top < ceiling) scrollBy(0, top - ceiling);
    else if (bottom > floor) scrollBy(0, Math.min(bottom - floor, top - ceiling));
  }

  /* Everything that changes a place ends here: the page is made to say what the radio buttons say. */

  changed(event) {
    if (event.target.matches("[data-view]")) return this.showView(event.target.value);
    if (event.target.closest(".pick")) this.settle();
    return undefined;
  }

  arrange() {
    const before = new Map(this.cards.map((card) => [card, card.getBoundingClientRect()]));
    const focused = document.activeElement;
    this.closeHoles();
    for (const [area, cards] of this.areas) {
      const list = this.form.querySelector(`[data-area="${area}"] [data-answers]`);
      if (cards.some((card, n) => card !== list.children[n])) list.append(...cards);
    }
    if (focused?.matches(".pick input")) this.mark(focused.closest("[data-answer]")); // the one that is checked now
    else if (this.form.contains(focused)) focused.focus({ preventScroll: true });
    this.slide(before);
    this.describe();
  }

  /* A draft came back. Who ranks by keys goes on with the first answer that has no place. */
  filled() {
    this.settle();
    if (this.marked) this.mark(this.nextAfter(-1) || this.marked);
  }

  /* Places have changed: what was asked or said about the earlier ones is void. */
  settle() {
    this.dragging.cancel(); // by another finger, or a draft that came back
    this.arrange();
    this.form.querySelector("[data-confirm]")?.remove();
    this.form.querySelector("[data-disagreed]").hidden = true;
  }

  /* As long as a place is missing, a hole may yet be filled. Afterwards it says nothing: what is shown is what is stored. */
  closeHoles() {
    const judged = this.cards.filter((card) => this.place(card) !== UNJUDGED);
    if (judged.some((card) => !this.isRanked(card))) return;
    densePlaces(judged.map((card) => this.place(card))).forEach((place, n) => this.setPlace(judged[n], place));
  }

  areaOf(card) {
    const place = this.place(card);
    return place === UNRANKED ? "unranked" : place === UNJUDGED ? "unjudged" : "ranked";
  }

  /* Name of the area -> its cards, best first; equal ones in the order of their letters. */
  get areas() {
    const areas = new Map(["ranked", "unranked", "unjudged"].map((name) => [name, []]));
    for (const card of this.cards) areas.get(this.areaOf(card)).push(card);
    for (const cards of areas.values()) cards.sort((a, b) => this.place(a) - this.place(b));
    return areas;
  }

  /* Motion explains who went where. */
  slide(before) {
    for (const card of this.cards) card.removeAttribute("style"); // of the one that was dropped
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
    for (const card of this.cards) {
      card.dataset.state = this.areaOf(card);
      card.querySelector("[data-place]").textContent = this.wordsOf(card);
      for (const mover of card.querySelectorAll("[data-move]")) mover.disabled = !this.stepped(card, Number(mover.dataset.move));
    }
    this.submit.disabled = this.areas.get("unranked").length > 0;
  }

  wordsOf(card) {
    const { unplaced, unjudged, tie } = card.querySelector("[data-place]").dataset;
    const place = this.place(card);
    if (place === UNRANKED) return unplaced;
    if (place === UNJUDGED) return unjudged;
    return [...this.ranked.values()].filter((other) => other === place).length > 1 ? `${place} · ${tie}` : String(place);
  }

  /* Nothing is handed in but what stands on the screen, whoever changed the radio buttons behind the board's back. */
  handedIn(event) {
    this.dragging.cancel();
    const shown = [...this.form.querySelectorAll("[data-answer]")];
    const meant = [...this.areas.values()].flat();
    const isShown = (card, n) =>
      card === meant[n] &&
      card.closest("[data-area]").dataset.area === this.areaOf(card) &&
      card.querySelector("[data-place]").textContent === this.wordsOf(card);
    if (shown.every(isShown)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    this.settle();
    const warning = this.form.querySelector("[data-disagreed]");
    warning.hidden = false;
    warning.textContent = warning.dataset.disagreed;
    warning.scrollIntoView({ block: "center" });
  }

  /* Keys */

  key(event) {
    const card = this.marked;
    const lettered = this.cards.find((each) => each.dataset.answer === event.key.toUpperCase());
    const digit = digitOf(event);
    if (lettered && !event.shiftKey) this.markAndShow(lettered);
    else if (!card) return undefined;
    else if (digit && digit.number <= this.cards.length) {
      if (!event.repeat) this.placeAndGoOn(card, digit); // held, it would go on to answers that were not read
    } else if (event.key === "Backspace" || event.key === "Delete") this.take(card);
    else if (event.shiftKey && ["ArrowLeft", "ArrowUp"].includes(event.key)) this.move(card, -1);
    else if (event.shiftKey && ["ArrowRight", "ArrowDown"].includes(event.key)) this.move(card, 1);
    else return undefined;
    return event.preventDefault();
  }

  /* One hand holds a card: the others' keys wait until it is let go. */
  keyWhileDragging(event) {
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Escape") this.dragging.cancel();
  }

  placeAndGoOn(card, { number, isInserted }) {
    if (isInserted && number) this.setPlaces(this.inserted(card, number));
    else this.setPlace(card, number || UNJUDGED);
    this.report();
    this.markAndShow(this.nextAfter(this.cards.indexOf(card)) || card);
  }

  take(card) {
    this.setPlace(card, UNRANKED);
    this.report();
    this.markAndShow(card);
  }

  inserted(card, place) {
    return withInserted(withoutCard(this.ranked, card), card, place, this.cards.length);
  }

  setPlaces(places) {
    for (const [card, place] of places) this.setPlace(card, place);
  }

  report() {
    this.settle();
    this.form.dispatchEvent(new Event("change", { bubbles: true }));
  }

  move(card, step) {
    const places = this.stepped(card, step);
    if (!places) return;
    this.setPlaces(places);
    this.report();
    this.markAndShow(card);
  }

  /* The places after `card` has gone one step better (-1) or worse (1): out of its tie, else past the next answer and
     those tied with it. One that is not ranked comes in as the last. Null where there is nowhere to go. */
  stepped(card, step) {
    const places = this.ranked;
    const others = [...places].filter(([other]) => other !== card).map(([, place]) => place);
    if (!places.has(card)) return step < 0 ? this.inserted(card, Math.max(0, ...others) + 1) : null;
    const own = places.get(card);
    if (others.includes(own)) return this.inserted(card, step < 0 ? own : own + 1);
    const past = others.filter((place) => (step < 0 ? place < own : place > own));
    if (!past.length) return null;
    return this.inserted(card, step < 0 ? Math.max(...past) : Math.min(...past));
  }

  /* Let go between two ranked answers, a card comes to stand between them, and what is behind goes down; between two that
     are tied it joins their tie, since a place of its own would part what was said to be equal. Before the first and behind
     the last of a tie it stands by itself. */
  dropped(card, { area, after, before, isOwn }) {
    const others = withoutCard(this.ranked, card);
    const [better, worse] = [others.get(after) ?? 0, others.get(before)];
    if (area.dataset.area !== "ranked") {
      this.setPlaces(others.set(card, area.dataset.area === "unjudged" ? UNJUDGED : UNRANKED));
    } else if (better === worse) this.setPlaces(others.set(card, better));
    else if (!isOwn) this.setPlaces(withInserted(others, card, better + 1, this.cards.length));
    this.report();
    this.mark(card);
  }

  clicked(event) {
    const mover = event.target.closest("[data-move]");
    const opener = event.target.closest("[data-open-text]");
    if (mover) this.move(mover.closest("[data-answer]"), Number(mover.dataset.move));
    else if (event.target.closest("[data-handle]")) this.mark(event.target.closest("[data-answer]"));
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

/* By the key's position, since with Shift it writes another character, which one depends on the layout. A keypad under
   Num Lock hides its Shift from the page and sends the key's other meaning instead. */
function digitOf(event) {
  const [, row, digit] = /^(Digit|Numpad)([0-9])$/.exec(event.code) ?? [];
  const isWritten = /^[0-9]$/.test(event.key);
  if (digit === undefined) return isWritten ? { number: Number(event.key), isInserted: false } : null;
  if (row === "Digit") return { number: Number(digit), isInserted: event.shiftKey };
  const isHidden = !isWritten && event.getModifierState("NumLock");
  return isWritten || isHidden || event.shiftKey ? { number: Number(digit), isInserted: event.shiftKey || isHidden } : null;
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
    if (board.dragging.isOn) board.keyWhileDragging(event);
    else if (event.key.toLowerCase() !== "m") board.key(event);
    else if (!event.repeat) board.toggleView();
  },
  { capture: true },
);
