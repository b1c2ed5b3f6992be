"use strict";
// The connection: one stream of events, begun anew whenever it is lost. The token is kept for this tab, and sent in a header only.

const TOKEN = "redis-proxy admin token";
// An event comes once a second: after so long without one the connection counts as lost.
const SILENCE_MS = 3500;
const PAUSE_MS = 1000;
// More than an event can have.
const MOST_CHARS = 4 << 20;

const $ = id => document.getElementById(id);
let current = null;
let wake = null;
let lostAt = null;

function state(name, text) {
  const shown = $("state");
  if (shown.dataset.state !== name || shown.textContent !== text) {
    shown.dataset.state = name;
    shown.textContent = text;
  }
  document.title = name === "live" ? "redis-proxy" : `(${name}) redis-proxy`;
}

function lost(why) {
  lostAt ??= new Date();
  document.body.classList.add("stale");
  state("lost", `connection lost at ${lostAt.toLocaleTimeString()}: ${why}; trying again`);
}

function alive() {
  lostAt = null;
  document.body.classList.remove("stale");
  state("live", "live");
}

function askForToken(text) {
  hideNumbers();
  $("why").textContent = text;
  state("refused", "no token");
  if ($("ask").hidden) {
    $("ask").hidden = false;
    $("token").focus();
  }
}

function refused(status, text) {
  hideNumbers();
  state("refused", `refused (${status}): ${text.trim()}; trying again`);
}

// What was shown belongs to whoever had the right to it.
function hideNumbers() {
  $("main").hidden = true;
  forgetAll();
}

async function listen() {
  const asking = new AbortController();
  current = asking;
  let watchdog = null;
  const heard = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => asking.abort(), SILENCE_MS);
  };
  heard();
  try {
    const token = sessionStorage.getItem(TOKEN);
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch("/events", { headers, cache: "no-store", redirect: "error", signal: asking.signal });
    if (answer.status === 401) {
      sessionStorage.removeItem(TOKEN);
      $("forget").hidden = true;
      askForToken(token ? "That is not the token, or it is one no more." : "What follows may name keys, and ADMIN_TOKEN is set.");
      return "token";
    }
    if (!answer.ok) {
      refused(answer.status, (await answer.text()).slice(0, 300));
      return "again";
    }
    $("ask").hidden = true;
    $("forget").hidden = !token;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) {
        throw new Error("ended by the program");
      }
      heard();
      text += value;
      if (text.length > MOST_CHARS) {
        throw new Error("what came is no event");
      }
      const events = text.split("\n\n");
      text = events.pop();
      const last = events.pop();
      if (last?.startsWith("data: ")) {
        const insight = JSON.parse(last.slice("data: ".length));
        alive();
        $("main").hidden = false;
        show(insight);
      }
    }
  } catch (error) {
    if (asking !== current) {
      return "again";
    }
    lost(asking.signal.aborted ? "no answer" : String(error.message ?? error).slice(0, 100));
    return "again";
  } finally {
    clearTimeout(watchdog);
    asking.abort();
  }
}

async function run() {
  for (;;) {
    const next = await listen();
    await new Promise(resolve => {
      wake = resolve;
      if (next === "again") {
        setTimeout(resolve, PAUSE_MS);
      }
    });
  }
}

$("ask").addEventListener("submit", event => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value.trim());
  $("token").value = "";
  state("waiting", "connecting");
  wake?.();
});
$("forget").addEventListener("click", () => {
  sessionStorage.removeItem(TOKEN);
  $("forget").hidden = true;
  current?.abort();
  hideNumbers();
  wake?.();
});
$("pause").addEventListener("click", () => {
  const paused = $("pause").getAttribute("aria-pressed") !== "true";
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Go on" : "Pause";
});
