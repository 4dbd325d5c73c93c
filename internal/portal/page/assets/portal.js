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
  // while something is under way. One that somebody types in, or has typed in, is left alone.
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
              const typing = [...old.querySelectorAll("input:not([type=hidden]), textarea, select")].some((e) => e === document.activeElement || e.value !== (e.defaultValue ?? e.value));
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

  // The form of /register: judged on every change, each problem beside its
  // field once that was left; machines come and go without loading the page.
  register(form) {
    const byId = (id) => document.getElementById(id);
    const hosts = byId("hosts"), blank = byId("blank-host");
    const left = new Set(); // fields that were left once, or had a problem
    for (const field of form.querySelectorAll("[aria-invalid]")) left.add(field.id);
    let latest = 0, waiting = 0;

    const show = (field, found) => {
      const place = byId(field.id + "-problem");
      if (!place) return;
      const lines = found.map((f) => {
        const line = document.createElement("p");
        if (f.warning) {
          line.className = "advice";
          line.append(Object.assign(document.createElement("b"), { textContent: "Note:" }), " ");
        }
        line.append(f.message + " ", Object.assign(document.createElement("span"), { className: "hint", textContent: f.hint }));
        return line;
      });
      if (place.textContent !== lines.map((l) => l.textContent).join("")) place.replaceChildren(...lines);
      if (found.some((f) => !f.warning)) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
    };

    const tell = (answer) => {
      const open = answer.findings.filter((f) => !f.warning).length;
      for (const field of form.querySelectorAll("[aria-describedby]")) {
        show(field, left.has(field.id) ? answer.findings.filter((f) => f.field === field.id) : []);
      }
      const whole = answer.findings.filter((f) => !f.field && !f.warning).map((f) => f.message + " " + f.hint).join(" ");
      byId("tally").textContent = (whole ? whole + " " : "") + (open === 0 ? "All is in order: you can send the form." : open === 1 ? "One thing is still to be filled in or mended." : open + " things are still to be filled in or mended.");
      byId("speaks").textContent = answer.speaks;
      byId("path").textContent = answer.path;
      byId("file").textContent = answer.file;
      byId("preview").hidden = false;
      const words = document.createElement("p");
      words.textContent = answer.fine ? "Once the Postmaster team has approved it:" : "This is told when nothing is left to be mended.";
      const list = document.createElement("ul");
      list.append(...answer.plan.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
      byId("plan").replaceChildren(words, list);
    };

    const judge = async () => {
      const mine = ++latest;
      try {
        const answer = await fetch("/register/check", { method: "POST", body: new URLSearchParams(new FormData(form)), cache: "no-store" });
        if (mine !== latest) return; // something was typed since
        if (answer.ok) tell(await answer.json());
        else if (answer.status === 401 || answer.status === 403) byId("tally").textContent = "You are not signed in any more. Sign in in another tab before you send this; what you typed stays here.";
      } catch { /* the server is away; it judges when the form is sent */ }
    };
    const soon = (wait) => { clearTimeout(waiting); waiting = setTimeout(judge, wait); };

    form.addEventListener("input", () => soon(400));
    form.addEventListener("change", () => soon(50));
    form.addEventListener("focusout", (event) => {
      if (event.target.matches("input, select, textarea") && !left.has(event.target.id)) {
        left.add(event.target.id);
        soon(150); // a button that was pressed comes first
      }
    });

    // Rows are numbered from 1, in labels, names and what refers to them.
    const number = () => {
      const rows = hosts.querySelectorAll("[data-row]");
      rows.forEach((row, i) => {
        for (const element of row.querySelectorAll("*")) {
          for (const name of ["id", "name", "for", "aria-describedby"]) {
            const value = element.getAttribute(name);
            if (value) element.setAttribute(name, value.replaceAll(/\bhost-\d+-/g, "host-" + (i + 1) + "-"));
          }
          if (element.matches("[data-number]")) element.textContent = i + 1;
          if (element.matches("[data-remove]")) element.value = "remove-" + (i + 1);
        }
      });
      form.querySelector("[data-add]").disabled = rows.length >= Number(hosts.dataset.most);
      return rows;
    };
    form.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      if (button.matches("[data-add]")) {
        const last = [...hosts.querySelectorAll("[data-row]")].pop();
        const row = blank.content.cloneNode(true).querySelector("[data-row]");
        if (last) row.querySelector("select").value = last.querySelector("select").value;
        hosts.insertBefore(row, blank);
        [...number()].pop().querySelector("input").focus();
      } else if (button.matches("[data-remove]")) {
        const rows = [...hosts.querySelectorAll("[data-row]")];
        if (rows.length < 2) return; // the server empties it
        const at = rows.indexOf(button.closest("[data-row]"));
        rows[at].remove();
        left.forEach((id) => { if (/^host-\d/.test(id)) left.delete(id); });
        number()[Math.max(0, at - 1)].querySelector("input").focus();
      } else if (button.dataset.perHour) {
        byId("per-hour").value = button.dataset.perHour;
        byId("per-day").value = button.dataset.perDay;
        left.add("per-hour").add("per-day");
      } else {
        return;
      }
      event.preventDefault();
      soon(50);
    });
    (byId("trouble") || byId("summary"))?.focus();
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
