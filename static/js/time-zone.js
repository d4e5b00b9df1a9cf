// The browser knows its time zone: a newcomer's form begins with it, the account page offers it. Without this script
// the list is chosen from by hand.
"use strict";

function chooseZone(select, zone) {
  if (![...select.options].some((option) => option.value === zone)) {
    const city = zone.slice(zone.lastIndexOf("/") + 1).replaceAll("_", " ");
    select.prepend(new Option(city, zone));
  }
  select.value = zone;
}

function offerZone(select, zone) {
  const offer = select.form.querySelector("[data-zone-offer]");
  const show = () => (offer.hidden = select.value === zone);
  offer.querySelector("[data-zone-name]").textContent = zone.replaceAll("_", " ");
  offer.querySelector("button").addEventListener("click", () => {
    chooseZone(select, zone);
    show();
    select.focus();
  });
  select.addEventListener("change", show);
  show();
}

const zoneOfBrowser = Intl.DateTimeFormat().resolvedOptions().timeZone;
for (const select of document.querySelectorAll("select[data-time-zone]")) {
  if (!zoneOfBrowser) continue;
  if (select.dataset.timeZone === "choose") chooseZone(select, zoneOfBrowser);
  offerZone(select, zoneOfBrowser);
}
