for (const place of document.querySelectorAll(".place")) {
  const viewer = place.querySelector(".viewer");
  const [left, right] = place.querySelectorAll("select");
  const show = makeSlider(viewer, () => [left, right].map(select => select.selectedOptions[0].textContent));

  function choose() {
    viewer.querySelector(".front").className = "layer front " + left.value;
    viewer.querySelector(".back").className = "layer back " + right.value;
    show();
  }

  // Magnified is what lies around the marked patch; --x and --y are where that begins, as a share of the whole.
  const zooms = place.querySelectorAll(".zoom button");
  for (const button of zooms) button.addEventListener("click", () => {
    const times = Number(button.dataset.times);
    for (const other of zooms) other.setAttribute("aria-pressed", String(other === button));
    viewer.style.setProperty("--times", times);
    for (const axis of ["x", "y"]) {
      const start = Math.min(Math.max(Number(place.dataset[axis]) - 0.5 / times, 0), 1 - 1 / times);
      viewer.style.setProperty("--" + axis, start);
      viewer.style.setProperty("--at-" + axis, times > 1 ? start / (1 - 1 / times) : 0); // as CSS places backgrounds
    }
  });

  left.addEventListener("change", choose);
  right.addEventListener("change", choose);
  choose();
}
