// Renews the page when the daemon says that what it shows has changed. All of it works
// without this: the page is asked for anew, and its main part takes the place of the old one.
"use strict";
(() => {
  const live = document.getElementById("live");
  const say = (word, on) => {
    live.textContent = word;
    live.className = on ? "on" : "";
  };
  let shown = document.getElementById("main").dataset.version;
  let stale = false;
  let asking = false;
  let source = null;

  // A user who marks text, to copy a command, is not interrupted; nor is a page renewed that nobody sees.
  const busy = () => document.hidden || !document.getSelection().isCollapsed;

  const take = (page) => {
    const next = page && page.getElementById("main");
    if (!next || !next.dataset.version) {
      return;
    }
    const old = document.getElementById("main");
    const active = document.activeElement;
    const field = active && active.id === "q" ? { value: active.value, from: active.selectionStart, to: active.selectionEnd } : null;
    const focus = active && old.contains(active) ? active.id : "";
    const open = Array.from(old.querySelectorAll("details[open]"), (d) => d.id);
    const typed = document.getElementById("q").value;
    const x = window.scrollX;
    const y = window.scrollY;
    old.replaceWith(document.adoptNode(next));
    for (const id of open) {
      const d = document.getElementById(id);
      if (d) {
        d.open = true;
      }
    }
    const q = document.getElementById("q");
    q.value = typed;
    const back = focus ? document.getElementById(focus) : null;
    if (back) {
      back.focus({ preventScroll: true });
      if (field) {
        q.setSelectionRange(field.from, field.to);
      }
    }
    window.scrollTo(x, y);
    document.querySelector("#asof time").replaceWith(document.adoptNode(page.querySelector("#asof time")));
    document.title = page.title;
    shown = next.dataset.version;
  };

  const renew = () => {
    if (asking || busy()) {
      stale = true;
      return;
    }
    asking = true;
    stale = false;
    const r = new XMLHttpRequest();
    r.open("GET", location.pathname + location.search);
    r.responseType = "document";
    r.timeout = 20000;
    r.onload = () => {
      if (r.status === 200) {
        take(r.response);
      }
    };
    r.onloadend = () => {
      asking = false;
      if (stale) {
        setTimeout(later, 1000);
      }
    };
    r.send();
  };

  const later = () => {
    if (stale && !busy()) {
      renew();
    }
  };

  const listen = () => {
    const where = new URLSearchParams(location.search);
    where.set("v", shown);
    source = new EventSource("/events?" + where);
    source.onopen = () => say("live", true);
    source.onmessage = (e) => {
      if (e.data !== shown) {
        renew();
      }
    };
    source.onerror = () => {
      // The browser asks again by itself, unless it was refused: then after a while.
      say("not live", false);
      if (source.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(() => {
          renew();
          wake();
        }, 30000);
      }
    };
  };

  // A page that nobody sees has no stream: a browser has six connections to a host, for all its windows.
  const hush = () => {
    if (source) {
      source.close();
      source = null;
    }
  };
  const wake = () => {
    if (!source && !document.hidden) {
      listen(); // told at once if something has changed meanwhile
    }
    later();
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? hush() : wake()));
  document.addEventListener("selectionchange", () => setTimeout(later, 500));
  window.addEventListener("pagehide", hush);
  window.addEventListener("pageshow", (e) => {
    if (e.persisted) {
      wake();
    }
  });
  wake();
})();
