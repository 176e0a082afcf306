"use strict";
const box = document.getElementById("filter"), rows = document.querySelectorAll("#calls tbody tr"), shown = document.getElementById("shown");
box.addEventListener("input", () => {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let n = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(w => text.includes(w));
    if (!row.hidden) n++;
  }
  shown.textContent = n.toLocaleString("en") + " shown";
});
