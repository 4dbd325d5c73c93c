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

  // What a page wants looked at first.
  focus(element) { element.focus(); },

  // A part of the page that the server sends anew whenever it changes, section by
  // section. The focus, what is open and what is selected stay.
  live(part) {
    const source = new EventSource(part.dataset.from);
    const summary = document.getElementById("status-summary");
    const mark = document.getElementById("status-live-mark");
    const reload = document.getElementById("status-reload");
    const on = (yes) => { mark.hidden = !yes; reload.hidden = yes; };
    const last = new Map();
    source.addEventListener("open", () => on(true));
    source.addEventListener("error", () => on(false)); // the browser asks again by itself
    source.addEventListener("status", (event) => {
      const page = new DOMParser().parseFromString(event.data, "text/html");
      for (const fresh of [...page.body.children]) {
        if (!fresh.id || last.get(fresh.id) === fresh.outerHTML) continue;
        const old = document.getElementById(fresh.id);
        const text = fresh.outerHTML;
        if (!old) part.append(fresh);
        else if (!renew(old, fresh)) continue;
        last.set(fresh.id, text);
      }
      const said = document.getElementById("live-summary");
      if (said && summary.textContent !== said.textContent) { // only a change of state is said
        summary.textContent = said.textContent;
        summary.className = "note " + (said.dataset.good === "yes" ? "good" : "warn");
      }
    });
    addEventListener("pagehide", () => source.close());
    addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  },

  // Parts of the page (data-part in it, or else all of it) that are fetched again
  // while something is under way. Who types in one is left alone.
  fresh(root) {
    const every = Number(root.dataset.every) || 3000;
    const last = new Map();
    const look = async () => {
      if (!document.hidden) {
        try {
          const answer = await fetch(location.href, { cache: "no-store" });
          if (answer.ok) {
            const page = new DOMParser().parseFromString(await answer.text(), "text/html");
            const whole = page.getElementById(root.id);
            const parts = root.querySelector("[data-part]") ? [...root.querySelectorAll("[data-part]")] : [root];
            for (const old of parts) {
              const fresh = page.getElementById(old.id);
              const typing = old.contains(document.activeElement) && document.activeElement.matches("input, textarea, select");
              if (!fresh || typing || fresh.outerHTML === last.get(old.id)) continue;
              const text = fresh.outerHTML;
              if (old === root) { // which holds this loop
                root.replaceChildren(...fresh.childNodes);
                last.set(old.id, text);
                start(root);
              } else if (renew(old, fresh)) {
                last.set(old.id, text);
                start(fresh);
              }
            }
            if (whole?.dataset.over) return;
          }
        } catch { /* the server is away; the next look may find it */ }
      }
      setTimeout(look, every);
    };
    if (!root.dataset.over) setTimeout(look, every);
  },
};

// renew puts a fresh section in the place of an old one, and keeps the reader's
// place in it; false: not now.
function renew(old, fresh) {
  const selection = document.getSelection();
  if (selection && !selection.isCollapsed && old.contains(selection.anchorNode)) return false;
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  let again = null;
  if (focused) {
    const like = (e) => e.localName === focused.localName && (focused.id ? e.id === focused.id : focused.href ? e.href === focused.href
      : e.closest("[id]")?.id === focused.closest("[id]")?.id && e.textContent === focused.textContent);
    again = [...fresh.querySelectorAll("a, button, summary, [tabindex]")].find(like);
    if (!again) return false;
  }
  for (const open of old.querySelectorAll("details[open][id]")) {
    const same = [...fresh.querySelectorAll("details[id]")].find((e) => e.id === open.id);
    if (same) same.open = true;
  }
  const scrolled = [...old.querySelectorAll(".scroll")].map((e) => e.scrollLeft);
  old.replaceWith(fresh);
  fresh.querySelectorAll(".scroll").forEach((e, i) => { e.scrollLeft = scrolled[i] || 0; });
  again?.focus({ preventScroll: true });
  return true;
}

function start(within) {
  for (const element of within.querySelectorAll("[data-enhance]")) {
    if (element.dataset.started) continue;
    element.dataset.started = "yes";
    for (const name of element.dataset.enhance.split(" ")) enhance[name]?.(element);
  }
}

document.addEventListener("DOMContentLoaded", () => start(document));
