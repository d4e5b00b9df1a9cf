// Whose page this is. Signing in again in another tab renews the token with which forms prove where they come from, so a
// page that was opened before cannot hand in. It asks who is here by now: for the same person it takes the new token and
// goes on; in another person's name nothing is handed in, and what was typed stays where it is.
"use strict";

let knownToken = csrfToken();

function csrfToken() {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1];
}

/* "same", or "otherPerson" and "signedOut" as the server says it; Error where it does not answer. */
async function whoIsHere() {
  const mine = document.body.dataset.person;
  const answer = await fetch(document.body.dataset.who, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const { person, token } = await answer.json();
  // Where nobody is named on the page (as on the one for signing in), it is anybody's.
  if (mine && String(person) !== mine) return person === null ? "signedOut" : "otherPerson";
  for (const field of document.querySelectorAll("input[name=csrfmiddlewaretoken]")) field.value = token;
  knownToken = csrfToken();
  return "same";
}

async function askAndGoOn(form, submitter) {
  try {
    const who = await whoIsHere();
    if (who === "same") form.requestSubmit(submitter);
    else tellTrouble(who);
  } catch {
    tellTrouble("offline");
  }
}

// Before htmx and every other listener, which are told when the form is submitted once more.
document.addEventListener(
  "submit",
  (event) => {
    if (event.target.method !== "post" || csrfToken() === knownToken) return;
    event.preventDefault();
    event.stopPropagation();
    askAndGoOn(event.target, event.submitter);
  },
  true,
);
