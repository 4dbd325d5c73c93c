// What makes the portal's pages better where scripts run. Every page works
// without it. Nothing here is trusted: the server judges everything again.
"use strict";

// Each page names what it wants in data-enhance.
const enhance = {
  // A button that is pressed twice sends once.
  once(form) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) { event.preventDefault(); return; }
      form.dataset.sent = "yes";
      setTimeout(() => { delete form.dataset.sent; }, 10000);
    });
  },

  // A text that can be copied with one press.
  copy(button) {
    const from = document.getElementById(button.dataset.from);
    if (!from || !navigator.clipboard) return;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(from.textContent.trim());
      const was = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = was; }, 2000);
    });
  },

  // A part of the page that is fetched again while something is under way.
  // Who reads or types in it is left alone.
  fresh(part) {
    const every = Number(part.dataset.every) || 3000;
    const look = async () => {
      const busy = part.contains(document.activeElement) && document.activeElement.matches("input, textarea, select");
      if (!document.hidden && !busy) {
        try {
          const answer = await fetch(location.href, { cache: "no-store" });
          if (answer.ok) {
            const page = new DOMParser().parseFromString(await answer.text(), "text/html");
            const fresh = page.getElementById(part.id);
            if (fresh && fresh.innerHTML !== part.dataset.last) {
              part.dataset.last = fresh.innerHTML;
              const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
              part.replaceChildren(...fresh.childNodes);
              if (focused) document.getElementById(focused)?.focus();
              start(part);
              if (fresh.dataset.over) return;
            }
          }
        } catch { /* the server is away; the next look may find it */ }
      }
      setTimeout(look, every);
    };
    setTimeout(look, every);
  },
};

function start(within) {
  for (const element of within.querySelectorAll("[data-enhance]")) {
    if (element.dataset.started) continue;
    element.dataset.started = "yes";
    for (const name of element.dataset.enhance.split(" ")) enhance[name]?.(element);
  }
}

document.addEventListener("DOMContentLoaded", () => start(document));
