// Copy buttons. Without this file everything can still be read, selected and copied by hand.
"use strict";
for (const button of document.querySelectorAll("button[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  if (!source || !navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const identity = source.classList.contains("identity");
    const text = identity ? source.textContent.replace(/\s+/g, "") : source.textContent;
    const said = document.getElementById("said");
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      said.textContent = "Copied to the clipboard";
    } catch {
      button.textContent = "Select and copy";
      said.textContent = "The browser doesn't allow copying";
    }
    setTimeout(() => { button.textContent = "Copy"; said.textContent = ""; }, 2500);
  });
}
