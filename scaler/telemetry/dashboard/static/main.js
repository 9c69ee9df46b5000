// The page: chooses the view, polls the daemon, and shows a banner when it does not respond.
import { NotFound, List } from "./api.js";
import { Detail } from "./detail.js";
import { setText } from "./dom.js";
import { Fleet } from "./fleet.js";
import { utc } from "./format.js";
import { Overview } from "./overview.js";

const MAX_PAUSE_MS = 5000;

const part = (id) => document.getElementById(id);
const list = new List();
let view = null;
let shownAt = null;
let failures = 0;
let timer = 0;
let latestPoll = 0;

function route(event) {
  const detail = location.hash.match(/^#\/w\/(.+)$/);
  view?.dispose();
  view = detail ? new Detail(decoded(detail[1])) : location.hash === "#/fleet" ? new Fleet() : new Overview(list);
  part("main").replaceChildren(view.root);
  document.title = view.name ? `${view.name} · Forescale` : "Forescale";
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.hash === (location.hash || "#/");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  scrollTo(0, 0);
  if (event) part("main").focus({ preventScroll: true }); // a screen reader continues in the new view
  poll();
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function poll() {
  clearTimeout(timer);
  if (document.hidden) return;
  const [polled, pollNumber] = [view, ++latestPoll];
  let body = null;
  let missing = null;
  try {
    body = await polled.refresh();
    failures = 0;
  } catch (error) {
    if (error instanceof NotFound) missing = error.message;
    else if (pollNumber === latestPoll) failures += 1;
  }
  if (pollNumber !== latestPoll) return;
  if (body) {
    head(body);
    polled.render(body);
  } else if (missing !== null) {
    failures = 0;
    polled.showNotFound(missing);
  }
  connection();
  timer = setTimeout(poll, Math.min(polled.pause_ms * 2 ** failures, MAX_PAUSE_MS));
}

function head({ version, count, at, clock_speed: speed }) {
  if (part("version").textContent && part("version").textContent !== `v${version}`) location.reload(); // load the page of the new version
  shownAt = at ?? shownAt;
  setText(part("version"), `v${version}`);
  setText(part("count"), `${count} ${count === 1 ? "workload" : "workloads"}`);
  setText(part("clock"), at === null ? "no tick yet" : utc(at));
  part("speed").hidden = speed === 1;
  setText(part("speed"), `Simulated time, ${speed}× real time`);
}

function connection() {
  const lost = failures > 0;
  const banner = part("banner");
  const text = shownAt === null
    ? "No response from the daemon. Retrying…"
    : `Connection lost. Showing the state of ${utc(shownAt)}. Retrying…`;
  if (lost) setText(banner, text);
  banner.hidden = !lost;
  part("live").classList.toggle("lost", lost);
  setText(part("live").lastElementChild, lost ? "offline" : "live");
}

addEventListener("hashchange", route);
addEventListener("online", poll);
document.addEventListener("visibilitychange", poll);
route();
