"use strict";
// Finds, filters and sorts the rows of the table. Without it the page shows the same, in the order of the inventory.
(() => {
  const table = document.querySelector("table");
  const body = table.tBodies[0];
  const tools = document.querySelector(".tools");
  const [find, state, sorted] = ["find", "state", "sorted"].map((name) => document.getElementById(name));
  const found = document.getElementById("found");
  const none = document.querySelector(".none");
  const headers = [...table.tHead.rows[0].cells];
  const collator = new Intl.Collator("en", { numeric: true });
  // What somebody has to look at first is first.
  const ranks = {};
  "failed unreachable refused unfinished unknown not_begun due planned changed ok proven unused".split(" ")
    .forEach((name, rank) => { ranks[name] = rank; });

  const rankOf = (cell) => ranks[[...cell.classList].find((name) => name in ranks)];
  const rows = [...body.rows].map((row, index) => ({
    row,
    index,
    text: row.textContent.toLowerCase(),
    state: row.dataset.state,
    drift: "drift" in row.dataset,
    keys: [...row.cells].map((cell) => [rankOf(cell) ?? 0, cell.textContent.trim()]),
  }));
  let shown = rows.length;
  let by = { column: -1, down: false };

  function filter() {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = state.value;
    shown = 0;
    for (const one of rows) {
      const fits = (wanted === "" || wanted === one.state || (wanted === "drift" && one.drift))
        && words.every((word) => one.text.includes(word));
      if (one.row.hidden === fits) one.row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    none.hidden = shown > 0;
    say();
  }

  function say() {
    const order = by.column < 0 ? "" : `, by ${headers[by.column].dataset.name}${by.down ? ", descending" : ""}`;
    found.textContent = `${shown} of ${rows.length} rows${order}`;
  }

  function sort(column, down) {
    by = { column, down };
    const sign = down ? -1 : 1;
    rows.sort((one, other) => {
      if (column < 0) return one.index - other.index;
      const [a, b] = [one.keys[column], other.keys[column]];
      return sign * (a[0] - b[0] || collator.compare(a[1], b[1])) || one.index - other.index;
    });
    const fragment = document.createDocumentFragment();
    for (const one of rows) fragment.append(one.row);
    body.append(fragment);
    headers.forEach((header, number) => {
      header.setAttribute("aria-sort", number !== column ? "none" : down ? "descending" : "ascending");
    });
    sorted.value = String(column);
    say();
  }

  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    header.dataset.name = header.textContent;
    header.replaceChildren(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(column, by.column === column && !by.down));
    sorted.append(new Option(header.dataset.name, String(column)));
  });
  find.addEventListener("input", filter);
  state.addEventListener("change", filter);
  sorted.addEventListener("change", () => sort(Number(sorted.value), false));
  document.getElementById("reset").addEventListener("click", () => {
    find.value = state.value = "";
    filter();
    sort(-1, false);
    find.focus();
  });
  // A link to a node that the filter hides shows all.
  window.addEventListener("hashchange", () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target?.closest("tr")?.hidden) {
      find.value = state.value = "";
      filter();
      target.scrollIntoView();
    }
  });
  // Paper has no place to click.
  const folded = document.querySelectorAll("details");
  window.addEventListener("beforeprint", () => folded.forEach((one) => { one.open = true; }));
  window.addEventListener("afterprint", () => folded.forEach((one) => { one.open = false; }));
  tools.hidden = false;
  filter();
})();
