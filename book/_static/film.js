/* A film (img.film, an SVG file) stands still; its button has it played, by the address's #play. */
(() => {
  "use strict";
  for (const film of document.querySelectorAll("img.film")) {
    const still = film.src;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "film-button";
    button.textContent = "Play the film";
    button.addEventListener("click", () => {
      const plays = film.src === still;
      film.src = plays ? `${still}#play` : still;
      button.textContent = plays ? "Stop the film" : "Play the film";
    });
    film.after(button);
  }
})();
