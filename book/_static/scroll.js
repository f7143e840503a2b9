/* A formula or figure too wide for the window can be scrolled with the keyboard, and is a tab stop only then. */
(() => {
  "use strict";
  function mark() {
    for (const frame of document.querySelectorAll("div.formula, figure:has(img.wide)")) {
      if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0;
      else frame.removeAttribute("tabindex");
    }
  }
  addEventListener("resize", mark);
  addEventListener("load", mark);
})();
