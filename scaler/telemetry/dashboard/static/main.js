// The page: which view, how often it asks, and what it says when nobody answers.
import { Gone, List } from "./api.js";
import { Detail } from "./detail.js";
import { say } from "./dom.js";
import { clock, day, zone } from "./format.js";
import { Overview } from "./overview.js";

const LONGEST_PAUSE_MS = 5000;

const part = (id) => document.getElementById(id);
const list = new List();
let view = null;
let shownAt = null;
let failures = 0;
let timer = 0;
let asking = 0;

function route() {
  const detail = location.hash.match(/^#\/w\/(.+)$/);
  view?.leave();
  view = detail ? new Detail(named(detail[1])) : new Overview(list);
  part("main").replaceChildren(view.root);
  document.title = detail ? `${view.name} · Forescale` : "Forescale";
  scrollTo(0, 0);
  poll();
}

function named(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function poll() {
  clearTimeout(timer);
  if (document.hidden) return;
  const [mine, turn] = [view, ++asking];
  let body = null;
  let missing = null;
  try {
    body = await mine.refresh();
    failures = 0;
  } catch (error) {
    if (error instanceof Gone) missing = error.message;
    else if (turn === asking) failures += 1;
  }
  if (turn !== asking) return;
  if (body) {
    head(body);
    mine.render(body);
  } else if (missing !== null) {
    failures = 0;
    mine.gone(missing);
  }
  connection();
  timer = setTimeout(poll, Math.min(mine.pause_ms * 2 ** failures, LONGEST_PAUSE_MS));
}

function head({ version, count, at }) {
  if (part("version").textContent && part("version").textContent !== `v${version}`) location.reload(); // another page belongs to it
  shownAt = at ?? shownAt;
  say(part("version"), `v${version}`);
  say(part("count"), `${count} ${count === 1 ? "workload" : "workloads"}`);
  say(part("clock"), at === null ? "no turn yet" : clock(at));
  say(part("zone"), at === null ? "" : zone());
  if (at !== null) part("clock").title = `The newest turn, on the daemon's clock: ${day(at)}, ${clock(at)}`;
}

function connection() {
  const lost = failures > 0;
  const banner = part("banner");
  const text = shownAt === null
    ? "No answer from the daemon. Trying again…"
    : `Connection lost, showing the state of ${clock(shownAt)}. Trying again…`;
  if (lost) say(banner, text);
  banner.hidden = !lost;
  part("live").classList.toggle("lost", lost);
  say(part("live").lastElementChild, lost ? "offline" : "live");
}

addEventListener("hashchange", route);
addEventListener("online", poll);
document.addEventListener("visibilitychange", poll);
route();
