const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -100, End: 100 };

// Let a `.viewer` be moved by mouse, finger and keyboard. `names` returns what the left and the right picture are called
// now. Returns a function that shows a share of the left picture, in percent, or with none says the names again.
function makeSlider(viewer, names) {
  const handle = viewer.querySelector(".handle");
  const at = () => Number(handle.getAttribute("aria-valuenow"));

  function show(share = at()) {
    share = Math.round(Math.min(100, Math.max(0, share)));
    const [left, right] = names();
    viewer.style.setProperty("--at", share);
    viewer.querySelector(".side.left").textContent = left;
    viewer.querySelector(".side.right").textContent = right;
    handle.setAttribute("aria-valuenow", share);
    handle.setAttribute("aria-valuetext", share + " % " + left + ", " + (100 - share) + " % " + right);
  }

  function follow(event) {
    const box = viewer.getBoundingClientRect();
    show((event.clientX - box.left) / box.width * 100);
  }

  viewer.addEventListener("pointerdown", event => {
    if (event.button) return;
    event.preventDefault();
    viewer.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    follow(event);
  });
  viewer.addEventListener("pointermove", event => {
    if (viewer.hasPointerCapture(event.pointerId)) follow(event);
  });
  handle.addEventListener("keydown", event => {
    if (!(event.key in STEPS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    show(at() + STEPS[event.key] * (event.shiftKey ? 10 : 1));
  });
  show();
  return show;
}
