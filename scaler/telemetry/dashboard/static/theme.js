// Theme: system, light or dark. Runs before the first paint; the browser stores the choice.
(() => {
  const KEY = "forescale.theme";
  const ORDER = ["auto", "light", "dark"];
  const LABEL = { auto: "auto, as the system", light: "light", dark: "dark" };
  let choice = "auto";
  try {
    if (ORDER.includes(localStorage.getItem(KEY))) choice = localStorage.getItem(KEY);
  } catch { /* storage may be forbidden */ }

  const apply = () => {
    const root = document.documentElement;
    if (choice === "auto") delete root.dataset.theme;
    else root.dataset.theme = choice;
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = choice[0].toUpperCase() + choice.slice(1);
      button.setAttribute("aria-label", `Colors: ${LABEL[choice]}. Press to change.`);
    }
    window.dispatchEvent(new Event("themechange"));
  };

  apply();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      choice = ORDER[(ORDER.indexOf(choice) + 1) % ORDER.length];
      try { localStorage.setItem(KEY, choice); } catch { /* kept for this page only */ }
      apply();
    });
  });
})();
