// A button with data-copies="id" copies the field of that id; without a clipboard the text is marked for Ctrl+C.
"use strict";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copies]");
  if (!button) return;
  const field = document.getElementById(button.dataset.copies);
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    // Plain http away from localhost has no clipboard: the selection is what is left.
    return;
  }
  button.textContent = button.dataset.done;
});
