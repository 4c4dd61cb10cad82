for (const place of document.querySelectorAll(".place")) {
  const viewer = place.querySelector(".viewer");
  const [left, right] = place.querySelectorAll("select");
  const show = makeSlider(viewer, () => [left, right].map(select => select.selectedOptions[0].textContent));

  function choose() {
    viewer.querySelector(".front").className = "layer front " + left.value;
    viewer.querySelector(".back").className = "layer back " + right.value;
    show();
  }

  left.addEventListener("change", choose);
  right.addEventListener("change", choose);
  choose();
}
