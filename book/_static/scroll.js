/* A formula too wide for the window can be scrolled with the keyboard, and is a tab stop only then. */
(() => {
  "use strict";
  function mark() {
    for (const formula of document.querySelectorAll("div.formula")) {
      if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
      else formula.removeAttribute("tabindex");
    }
  }
  addEventListener("resize", mark);
  addEventListener("load", mark);
})();
