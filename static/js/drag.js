// Dragging a card by its header, with a mouse, a pen or a finger. The card itself moves, and nothing gives way to it: a
// line shows the gap that it would go into. Only when it is let go does the board hear of it, once. Left out on purpose:
// drags that begin on a button of the header, which is there to be pressed.
"use strict";

const SLACK_PX = 5; // a hand that shakes is no drag
const EDGE_PX = 72; // so near to the end of what is in sight, the page scrolls
const FASTEST_PX = 24; // of scrolling, in a frame

class Dragging {
  /* `onDrop(card, { area, after, before })`: let go in that area, between those two cards (null: at its end). */
  constructor(form, onDrop) {
    this.form = form;
    this.onDrop = onDrop;
    form.addEventListener("pointerdown", (event) => this.pressed(event));
  }

  get isOn() {
    return this.form.hasAttribute("data-dragging");
  }

  pressed(event) {
    const head = event.target.closest("[data-handle]");
    if (!head || this.card || !event.isPrimary || event.button !== 0 || event.target.closest("button")) return;
    this.card = head.closest("[data-answer]");
    this.start = this.pointer = { x: event.clientX, y: event.clientY };
    head.setPointerCapture(event.pointerId);
    this.listeners = new AbortController();
    const options = { signal: this.listeners.signal };
    const mine = (act) => (other) => other.pointerId === event.pointerId && act(other);
    head.addEventListener("pointermove", mine((move) => this.moved(move)), options);
    head.addEventListener("pointerup", mine(() => this.letGo()), options);
    // Whatever takes the pointer away (a call, the system's gestures): the card goes back, and nothing has happened.
    head.addEventListener("lostpointercapture", mine(() => this.cancel()), options);
    window.addEventListener("scroll", () => this.isOn && this.follow(), options);
  }

  moved(event) {
    this.pointer = { x: event.clientX, y: event.clientY };
    const far = Math.hypot(this.pointer.x - this.start.x, this.pointer.y - this.start.y);
    if (!this.isOn && far > SLACK_PX) this.lift();
    if (this.isOn) this.follow();
  }

  lift() {
    for (const motion of this.card.getAnimations()) motion.cancel();
    const box = this.card.getBoundingClientRect();
    this.grip = { x: this.start.x - box.left, y: this.start.y - box.top };
    this.shift = { x: 0, y: 0 };
    this.card.classList.add("is-dragged");
    this.form.dataset.dragging = "";
    this.scrollOn();
  }

  /* The card stays under the pointer, where it was taken hold of, however the page moves below it. */
  follow() {
    const box = this.card.getBoundingClientRect();
    this.shift.x += this.pointer.x - this.grip.x - box.left;
    this.shift.y += this.pointer.y - this.grip.y - box.top;
    this.card.style.transform = `translate(${this.shift.x}px, ${this.shift.y}px)`;
    this.showTarget();
  }

  letGo() {
    const { card, isOn } = this;
    const target = isOn ? this.target() : null;
    this.clear({ isDropped: isOn });
    if (!isOn) return;
    this.onDrop(card, target);
  }

  cancel() {
    this.clear({ isDropped: false });
  }

  /* A card that was dropped keeps its transform until the board has noted where it is: it slides on from there. */
  clear({ isDropped }) {
    if (!this.card) return;
    this.listeners.abort();
    this.card.classList.remove("is-dragged");
    if (!isDropped) this.card.removeAttribute("style");
    this.hideTarget();
    delete this.form.dataset.dragging;
    this.card = null;
  }

  /* Scrolling: what is in sight ends below at the buttons, and above at the prompt, which stays. */

  scrollOn() {
    if (!this.isOn) return;
    if (!this.form.isConnected) return this.cancel();
    const { y } = this.pointer;
    const top = document.querySelector("[data-prompt]").getBoundingClientRect().bottom + EDGE_PX;
    const bottom = Math.min(innerHeight, this.form.querySelector(".desk-actions").getBoundingClientRect().top) - EDGE_PX;
    // Not because the card was taken hold of near an end: only towards where it is drawn.
    const depth = y < this.start.y ? Math.min(0, y - top) : Math.max(0, y - bottom);
    const step = Math.max(-1, Math.min(1, depth / EDGE_PX)) * FASTEST_PX;
    if (step) {
      window.scrollBy({ top: step, behavior: "instant" });
      this.follow(); // in the same frame: the event comes in the next
    }
    requestAnimationFrame(() => this.scrollOn());
    return undefined;
  }

  /* Where the card would go */

  target() {
    const area = nearest([...this.form.querySelectorAll("[data-area]")].filter(isVisible), this.pointer);
    const rest = { area, after: null, before: null };
    const cards = [...area.querySelectorAll("[data-answer]")];
    if (area.dataset.area !== "ranked" || !cards.length) return rest;
    const over = nearest(cards, this.pointer, (card) => this.boxOf(card));
    const own = cards.indexOf(this.card);
    const others = cards.filter((card) => card !== this.card);
    const side = over === this.card ? "own" : this.sideOf(over, own, cards.indexOf(over));
    const n = over === this.card ? own : others.indexOf(over) + (side === "after" ? 1 : 0);
    return { area, after: others[n - 1] ?? null, before: others[n] ?? null, over, side, isOwn: n === own };
  }

  /* Near an edge of a card that edge counts. In its middle, a card that comes from before it pushes it forward, and one
     that comes from behind pushes it back: dropped upon another, it takes that one's place. */
  sideOf(over, own, at) {
    const box = this.boxOf(over);
    const isRow = standInRows(over.parentElement);
    let part = isRow ? (this.pointer.x - box.left) / box.width : (this.pointer.y - box.top) / box.height;
    if (isRow && getComputedStyle(over).direction === "rtl") part = 1 - part;
    if (part < 0.3) return "before";
    if (part > 0.7) return "after";
    if (own < 0) return part < 0.5 ? "before" : "after";
    return own < at ? "after" : "before";
  }

  /* Of the dragged card, the cell that it came from. */
  boxOf(card) {
    const box = card.getBoundingClientRect();
    return card === this.card ? new DOMRect(box.x - this.shift.x, box.y - this.shift.y, box.width, box.height) : box;
  }

  showTarget() {
    this.hideTarget();
    const { area, over, side, isOwn } = this.target();
    if (over && side !== "own" && !isOwn) over.dataset.gap = `${side} ${standInRows(over.parentElement) ? "row" : "column"}`;
    else if (!over) area.dataset.over = "";
  }

  hideTarget() {
    for (const card of this.form.querySelectorAll("[data-gap]")) delete card.dataset.gap;
    for (const area of this.form.querySelectorAll("[data-over]")) delete area.dataset.over;
  }
}

function standInRows(list) {
  return getComputedStyle(list).gridTemplateColumns.split(" ").length > 1;
}

function isVisible(element) {
  return element.getClientRects().length > 0;
}

function nearest(elements, point, boxOf = (element) => element.getBoundingClientRect()) {
  const distance = (element) => {
    const box = boxOf(element);
    const x = Math.max(box.left - point.x, 0, point.x - box.right);
    const y = Math.max(box.top - point.y, 0, point.y - box.bottom);
    return Math.hypot(x, y);
  };
  return elements.reduce((best, element) => (distance(element) < distance(best) ? element : best));
}
