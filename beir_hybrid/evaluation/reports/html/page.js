// The page is complete without this: it hides maps on request, and takes regions that do not scroll out of the tab order.
"use strict";
for (const control of document.querySelectorAll(".switch")) {
  const maps = document.querySelectorAll(`[data-maps="${control.dataset.of}"]`);
  const show = () => {
    const chosen = control.querySelector(":checked").value;
    for (const part of maps) part.hidden = chosen !== "all" && part.dataset.number !== chosen;
  };
  control.addEventListener("change", show);
  control.hidden = false;
  show();
}
const watch = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
for (const part of document.querySelectorAll(".scroll, pre[role=region]")) watch.observe(part);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
