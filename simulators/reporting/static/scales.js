// Formats, colours and scales of the charts.
"use strict";
const probe = document.createElement("span");
const LINEAR_PART = 0.75; // the part of a compressed axis that is linear

/** Return a colour of the current theme for the canvas. */
function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

function number(value, digits = 4) {
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(digits)));
}

const FORMATS = {
  number,
  share: (value, digits = 4) => `${number(100 * value, digits)}%`,
  usd: (value) => (Math.abs(value) >= 1000 ? `$${number(value)}` : `$${Number(value.toPrecision(4))}`),
  seconds: (value) => (value < 1 ? `${number(1000 * value, 3)} ms` : `${number(value, 3)} s`),
  utc: (value) => new Date(1000 * value).toISOString().slice(0, 16).replace("T", " "),
};

/** Return the time of day in UTC; at midnight, the date. */
function clock(at) {
  const [date, time] = FORMATS.utc(at).split(" ");
  return time === "00:00" ? date : time;
}

/** Return the first index whose value exceeds `at`. */
function after(values, at) {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= at) low = middle + 1;
    else high = middle;
  }
  return low;
}

function node(tag, text, css) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  if (css) element.className = css;
  return element;
}

/** Return whether an axis up to `top` is compressed above its knee. */
function isCompressed(knee, top) {
  return top > 1.3 * knee;
}

/** Return the place of a value: linear up to the knee, logarithmic above it. */
function compress(knee, top, value) {
  if (!isCompressed(knee, top)) return value;
  if (value <= knee) return (LINEAR_PART * value) / knee;
  return LINEAR_PART + ((1 - LINEAR_PART) * Math.log(value / knee)) / Math.log(top / knee);
}

/** Return the value at a place: the inverse of `compress`. */
function expand(knee, top, place) {
  if (!isCompressed(knee, top)) return place;
  if (place <= LINEAR_PART) return (place * knee) / LINEAR_PART;
  return knee * Math.exp(((place - LINEAR_PART) / (1 - LINEAR_PART)) * Math.log(top / knee));
}

/** Return round values for the ticks of an axis with a knee. */
function ticks(knee, top) {
  const linear = isCompressed(knee, top) ? knee : top;
  const rough = linear / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((k) => k * power >= rough);
  const at = [];
  for (let value = 0; value <= linear; value += step) at.push(value);
  for (let decade = 10 ** Math.floor(Math.log10(linear)); linear < top && decade <= top; decade *= 10) {
    for (const value of [decade, 2 * decade, 5 * decade]) {
      const room = compress(knee, top, value) - compress(knee, top, at.at(-1));
      if (value <= top && value > knee && room > 0.08) at.push(value);
    }
  }
  return at;
}
