// Autosave. A form with data-draft keeps its words in two places: at once in this browser, and within two seconds on the
// server; the copy here goes only when the server has said that it holds exactly that. Without data-draft-url the server
// keeps no draft, and the copy stays until the form is submitted. Left out on purpose: merging. When two windows wrote
// different things, both are shown and the person chooses. Each window has a copy of its own, and a copy belongs to a
// person: whoever signs in next on this machine is never shown it.
"use strict";

const PAUSE_MS = 700; // quiet time after the last key
const LONGEST_MS = 1500; // a fast typist is saved, too
const RETRY_MS = [2000, 4000, 8000, 15000];
const COPY_DAYS = 30;
const LAST_SAVE_MS = 2000; // how long signing out waits for it
const SENT_KEPT = 4; // contents that were sent, the newest: nearly always two suffice, and a browser's store is small
const NOT_TYPED = ["csrfmiddlewaretoken", "submission_id", "seen"]; // fields that each page has its own values of

class Draft {
  constructor(form) {
    this.form = form;
    this.version = Number(form.dataset.draftVersion);
    this.copies = `draft/${form.dataset.draft}/`;
    this.copyKey = `${this.copies}${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
    this.status = form.querySelector("[data-draft-status]");
    // A refused form comes back with words that may be no draft yet.
    this.saved = "draftUnsaved" in form.dataset ? null : this.content();
    this.sent = []; // from here, and what the server may hold: what it acknowledged last, and what came after that
    this.attempts = 0;
    this.bringBack();
    if (this.saved === null) this.changed();
    form.addEventListener("input", () => this.changed());
    form.addEventListener("change", () => this.changed());
  }

  content() {
    const fields = new FormData(this.form);
    for (const name of NOT_TYPED) fields.delete(name);
    return new URLSearchParams(fields).toString();
  }

  get isAttached() {
    return this.form.isConnected && !this.isOver;
  }

  changed() {
    if (this.isOver) return; // a field that is taken away reports its last change
    const content = this.content();
    if (content === this.saved && !this.inFlight) {
      this.forget();
      return;
    }
    this.keepCopy(content);
    this.firstUnsaved ||= Date.now();
    const wait = Math.min(PAUSE_MS, Math.max(0, this.firstUnsaved + LONGEST_MS - Date.now()));
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), wait);
  }

  keepCopy(content) {
    try {
      const copy = { content, version: this.version, sent: this.sent, at: Date.now() };
      localStorage.setItem(this.copyKey, JSON.stringify(copy));
    } catch {
      // A full or forbidden store: the server's draft is still there.
    }
  }

  forget() {
    clearTimeout(this.timer);
    this.firstUnsaved = 0;
    localStorage.removeItem(this.copyKey);
  }

  /* Handed in or given up: nothing of it is to come back, whichever window wrote it. */
  end() {
    this.isOver = true;
    this.forget();
    for (const key of keysOfCopies(this.copies)) localStorage.removeItem(key);
  }

  /* After a reload, a crash or a new sign-in: what only this browser knows goes back into the form. Of several windows'
     copies the newest does; the next comes when that one is settled. */
  bringBack() {
    const found = keysOfCopies(this.copies).map((key) => ({ key, ...readCopy(key) }));
    for (const { key, content } of found) if (content === this.saved) localStorage.removeItem(key);
    const copy = found.filter(({ content }) => content !== this.saved).sort((a, b) => b.at - a.at)[0];
    if (!copy) return;
    this.version = copy.version;
    this.sent = [copy.sent ?? []].flat(); // copies of earlier versions hold one, or none
    this.fill(new URLSearchParams(copy.content));
    this.keepCopy(copy.content);
    localStorage.removeItem(copy.key);
    this.timer = setTimeout(() => this.save(), 0);
  }

  fill(fields) {
    for (const control of this.form.elements) {
      if (!control.name) continue;
      if (control.type === "radio" || control.type === "checkbox") {
        control.checked = fields.getAll(control.name).includes(control.value);
      } else if (fields.has(control.name)) control.value = fields.get(control.name);
    }
    this.form.dispatchEvent(new CustomEvent("draft:filled", { bubbles: true }));
  }

  async save({ isLast = false } = {}) {
    if (!this.form.dataset.draftUrl || !this.isAttached || (this.inFlight && !isLast)) return;
    clearTimeout(this.timer);
    const content = this.content();
    this.inFlight = true;
    this.sent = [...this.sent.filter((other) => other !== content), content].slice(-SENT_KEPT);
    if (content !== this.saved) this.keepCopy(content);
    if (!isLast) this.tell("saving");
    try {
      const answer = await fetch(this.form.dataset.draftUrl, {
        method: "POST",
        body: new URLSearchParams(`${content}&draft_version=${this.version}`),
        headers: { "X-CSRFToken": csrfToken() },
        redirect: "manual",
        keepalive: isLast,
      });
      this.inFlight = false;
      await this.heard(answer, content);
    } catch {
      this.inFlight = false;
      this.tell("offline");
      this.retry();
    }
  }

  async heard(answer, content) {
    if (!this.isAttached) return;
    if (answer.ok) this.acknowledged(await answer.json(), content);
    else if (answer.status === 409) await this.settle(await answer.text());
    else if (answer.status === 422) this.refused(await answer.text());
    else if (answer.type === "opaqueredirect") this.tell("signedOut"), this.retry();
    else if (answer.status === 404 || answer.status === 410) await this.missed();
    else this.tell("failed"), this.retry();
  }

  acknowledged({ version, saved_at: savedAt }, content) {
    this.version = version;
    this.saved = content;
    this.sent = [content];
    this.attempts = 0;
    this.firstUnsaved = 0;
    this.tell("saved", savedAt);
    if (this.content() === content) this.forget();
    else this.changed();
  }

  /* Trying again would change nothing: its author has to, and the copy here stays until then. */
  refused(why) {
    this.firstUnsaved = 0;
    this.tell("refused", why);
  }

  /* Not there for whoever is signed in: gone, unless that is another person, who may leave again. */
  async missed() {
    if ((await whoIsHere()) === "same") this.tell("gone");
    else this.tell("otherPerson"), this.retry();
  }

  retry() {
    const wait = RETRY_MS[Math.min(this.attempts, RETRY_MS.length - 1)];
    this.attempts += 1;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), wait);
  }

  tell(state, value = "") {
    if (!this.status) return;
    this.status.dataset.state = state;
    const words = this.status.dataset[state].replace("%s", value);
    // The clock alone is no news: a screen reader hears of trouble, not of every minute.
    if (this.status.textContent.trim() !== words) this.status.textContent = words;
    const signIn = this.form.querySelector("[data-sign-in]");
    if (signIn) signIn.hidden = state !== "signedOut";
  }

  /* The server holds a newer version. One that came from here is no other window's: its answer got lost, or is late. */
  async settle(html) {
    const box = this.form.querySelector("[data-draft-conflict]");
    box.innerHTML = html;
    const { storedVersion, storedContent } = box.querySelector("[data-stored-version]").dataset;
    const stored = Number(storedVersion);
    if (!this.sent.some((content) => isSame(content, storedContent))) {
      this.showConflict(box, stored);
      return;
    }
    box.replaceChildren();
    this.version = stored;
    await this.save();
  }

  showConflict(box, stored) {
    box.hidden = false;
    this.tell("conflict");
    box.querySelector("[data-keep-mine]").addEventListener("click", () => {
      box.hidden = true;
      this.version = stored;
      this.keepCopy(this.content());
      this.save();
    });
    box.querySelector("[data-take-stored]").addEventListener("click", () => {
      this.isOver = true;
      this.forget();
      location.reload();
    });
  }
}

const drafts = new Map();

function followDraft(form) {
  if (!drafts.has(form)) drafts.set(form, new Draft(form));
}

/* Whether two contents say the same, in whatever order. */
function isSame(one, other) {
  const [a, b] = [new URLSearchParams(one), new URLSearchParams(other)];
  a.sort();
  b.sort();
  return a.toString() === b.toString();
}

function keysOfCopies(prefix) {
  return Object.keys(localStorage).filter((key) => key.startsWith(prefix));
}

function readCopy(key) {
  return JSON.parse(localStorage.getItem(key));
}

function sweepCopies() {
  for (const key of keysOfCopies("draft/")) {
    if (Date.now() - readCopy(key).at > COPY_DAYS * 86_400_000) localStorage.removeItem(key);
  }
}

function unsaved() {
  return [...drafts.values()].filter((draft) => draft.content() !== draft.saved);
}

document.addEventListener("htmx:load", (event) => {
  for (const form of drafts.keys()) if (!form.isConnected) drafts.delete(form);
  for (const form of event.target.querySelectorAll("form[data-draft]")) followDraft(form);
  if (event.target.matches("form[data-draft]")) followDraft(event.target);
});
document.addEventListener("htmx:beforeRequest", (event) => {
  const draft = drafts.get(event.target);
  if (draft) clearTimeout(draft.timer);
});
// Before the answer is swapped in: afterwards the form is gone, and no event of it arrives any more.
document.addEventListener("htmx:beforeOnLoad", (event) => {
  const draft = drafts.get(event.target);
  if (!draft) return;
  const { status, responseURL } = event.detail.xhr;
  // Taken in, the words live on the server. Refused or unanswered, they stay a draft.
  if (status === 200 && !isLogin(responseURL)) draft.end();
  // Where this browser alone has them, the form that comes back brings them along, over what is stored by now.
  else if (!draft.form.dataset.draftUrl && [409, 422].includes(status)) draft.end();
  else draft.changed();
});
for (const failure of ["htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(failure, (event) => drafts.get(event.target)?.changed());
}
document.addEventListener("submit", async (event) => {
  if (event.target.matches("[data-leaves-drafts]")) for (const draft of drafts.values()) draft.end();
  // The last words are saved while their author is still signed in.
  if (event.target.matches("[data-signs-out]") && unsaved().length) {
    event.preventDefault();
    const saves = unsaved().map((draft) => draft.save({ isLast: true }));
    await Promise.race([Promise.all(saves), new Promise((done) => setTimeout(done, LAST_SAVE_MS))]);
    event.target.submit();
  }
});
for (const occasion of ["online", "focus"]) {
  window.addEventListener(occasion, () => {
    for (const draft of unsaved()) draft.save();
  });
}
window.addEventListener("pagehide", () => {
  for (const draft of unsaved()) draft.save({ isLast: true });
});
sweepCopies();
