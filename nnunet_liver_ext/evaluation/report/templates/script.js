"use strict";
(() => {
  const root = document.documentElement;
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const kept = { get(name) { try { return localStorage.getItem(name); } catch { return null; } },
    set(name, value) { try { localStorage.setItem(name, value); } catch { /* a file may not keep anything */ } } };

  /* light and dark */
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const setTheme = name => { root.dataset.theme = name; kept.set("nnunet_liver_theme", name); };
  if (["light", "dark"].includes(kept.get("nnunet_liver_theme"))) root.dataset.theme = kept.get("nnunet_liver_theme");

  /* tables: sort, filter, choose columns */
  const tables = new Map();
  for (const table of all("table.data")) {
    const name = table.id.replace("table-", "");
    const bar = one(`.toolbar[data-for="${name}"]`);
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const own = { table, bar, body, rows, changed: [] };
    tables.set(name, own);

    const key = (row, column) => {
      const cell = row.cells[column], value = cell.dataset.v === undefined ? cell.textContent.trim() : cell.dataset.v;
      if (value === "") return null;
      const number = Number(value);
      return cell.matches(".text:not([data-v])") || Number.isNaN(number) ? value : number;
    };
    const compare = (a, b) => typeof a === "string" || typeof b === "string" ? String(a).localeCompare(String(b), undefined, { numeric: true }) : a - b;
    own.sort = (header, descending) => {
      const column = header.cellIndex;
      const found = rows.map(row => [key(row, column), row]);
      found.sort(([a], [b]) => a === null ? (b === null ? 0 : 1) : b === null ? -1 : compare(a, b) * (descending ? -1 : 1));
      all("th[aria-sort]", table).forEach(other => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      body.append(...found.map(([, row]) => row));
      own.changed.forEach(call => call());
    };
    for (const header of all("thead tr:last-child th", table)) {
      one("button", header).addEventListener("click", () => own.sort(header, header.getAttribute("aria-sort") === "ascending"));
    }

    own.filter = () => {
      if (!bar) return;
      const text = one('[data-filter="text"]', bar).value.trim().toLowerCase();
      const flagged = one('[data-filter="flagged"]', bar);
      const selects = all("select[data-filter]", bar);
      for (const row of rows) {
        row.hidden = !((!text || row.textContent.toLowerCase().includes(text))
          && (!flagged || !flagged.checked || "flagged" in row.dataset)
          && selects.every(select => !select.value || row.dataset[select.dataset.filter] === select.value));
      }
      const shown = rows.filter(row => !row.hidden).length;
      one("output", bar).textContent = `${shown} of ${rows.length} rows`;
      own.changed.forEach(call => call());
    };
    own.shown = () => [...body.rows].filter(row => !row.hidden);

    const style = document.createElement("style");
    document.head.append(style);
    own.columns = () => {
      const off = bar ? all("input[data-column]:not(:checked)", bar).map(box => box.dataset.column) : [];
      style.textContent = off.map(number => {
        const nth = one(`th[data-column="${number}"]`, table).cellIndex + 1;
        return `#${table.id} :is(tbody tr, thead tr:last-child) > :nth-child(${nth}) { display: none; }`;
      }).join("\n");
      for (const header of all("[data-columns]", table)) {
        const left = header.dataset.columns.split(" ").filter(number => !off.includes(number)).length;
        header.hidden = left === 0;
        header.colSpan = Math.max(1, left);
      }
    };
    if (bar) { bar.addEventListener("input", event => event.target.dataset.column === undefined ? own.filter() : own.columns()); }
    own.columns();
    own.filter();
  }
  document.addEventListener("click", event => all("details.chooser[open]").forEach(box => { if (!box.contains(event.target)) box.open = false; }));

  /* sections of the cases follow the table */
  const sections = new Map(all("details.case").map(section => [section.id, section]));
  const main = tables.get("cases");
  const follow = () => {
    const order = [...new Set(main.shown().map(row => row.dataset.anchor))].map(anchor => sections.get(anchor)).filter(Boolean);
    const shown = new Set(order);
    sections.forEach(section => { section.hidden = !shown.has(section); });
    if (order.length) order[0].parentNode.append(...order);
  };
  if (main && sections.size) { main.changed.push(follow); follow(); }

  let current = null;
  const mark = anchor => {
    all("tr.current").forEach(row => row.classList.remove("current"));
    all("tr[data-anchor]").filter(row => row.dataset.anchor === anchor).forEach(row => row.classList.add("current"));
  };
  const open = anchor => {
    const section = sections.get(anchor);
    if (!section) return search(anchor);
    if (section.hidden) { clear(); }
    if (current && current !== section) current.open = false;
    current = section;
    section.open = true;
    mark(anchor);
    history.replaceState(null, "", `#${anchor}`);
    section.scrollIntoView({ block: "start" });
    one("summary", section).focus({ preventScroll: true });
    return true;
  };
  const clear = () => {
    all("[data-filter]", main.bar).forEach(field => { if (field.type === "checkbox") field.checked = false; else if (field.dataset.filter !== "metric") field.value = ""; });
    main.filter();
  };
  /* without sections a case is looked for in the table */
  const search = anchor => {
    const row = main && main.rows.find(other => other.dataset.anchor === anchor);
    if (!row) return false;
    clear();
    one('[data-filter="text"]', main.bar).value = row.dataset.case;
    main.filter();
    mark(anchor);
    main.bar.scrollIntoView({ block: "start" });
    return true;
  };
  const step = by => {
    const order = all("details.case").filter(section => !section.hidden);
    if (!order.length) return;
    const at = current && !current.hidden ? order.indexOf(current) : by > 0 ? -1 : order.length;
    open(order[Math.min(order.length - 1, Math.max(0, at + by))].id);
  };
  document.addEventListener("click", event => {
    const link = event.target.closest('a[href^="#case-"]');
    if (link && open(link.getAttribute("href").slice(1))) event.preventDefault();
  });
  const fromAddress = () => { if (location.hash.startsWith("#case-")) open(location.hash.slice(1)); };
  addEventListener("hashchange", fromAddress);
  fromAddress();

  /* how masks are drawn */
  const setMasks = value => {
    root.dataset.masks = value;
    all('input[name="masks"]').forEach(box => { box.checked = box.value === value; });
  };
  setMasks("outlines");
  document.addEventListener("change", event => { if (event.target.name === "masks") setMasks(event.target.value); });
  const nextMasks = () => { const values = ["outlines", "areas", "none"]; setMasks(values[(values.indexOf(root.dataset.masks) + 1) % 3]); };
  const enlarge = (figure, large) => {
    figure.classList.toggle("large", large);
    const button = one("button", figure);
    if (button) button.setAttribute("aria-pressed", String(large));
  };

  /* buttons */
  const copy = async button => {
    const from = document.getElementById(button.dataset.from);
    const said = one(".copied", button.parentNode);
    try { await navigator.clipboard.writeText(from.innerText); said.textContent = "copied"; }
    catch { getSelection().selectAllChildren(from); said.textContent = "selected: copy it with Ctrl+C"; }
  };
  const keys = document.getElementById("keys");
  const actions = { theme: () => setTheme(isDark() ? "light" : "dark"), print: () => print(), keys: () => keys.showModal(), next: () => step(1),
    previous: () => step(-1), copy, enlarge: button => { const figure = button.closest("figure"); enlarge(figure, !figure.classList.contains("large")); } };
  document.addEventListener("click", event => { const button = event.target.closest("[data-do]"); if (button) actions[button.dataset.do](button); });

  /* keys */
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || keys.open || event.target.closest("input, select, textarea")) return;
    const inTable = event.target.closest(".scroll");
    const does = { j: () => step(1), k: () => step(-1), ArrowRight: inTable ? null : () => step(1), ArrowLeft: inTable ? null : () => step(-1), o: nextMasks, t: actions.theme,
      "?": actions.keys, "/": () => { const field = main && one('[data-filter="text"]', main.bar); if (field) { field.focus(); field.scrollIntoView({ block: "center" }); } },
      z: () => { if (current) { const figures = all(".picture", current), large = !figures.some(figure => figure.classList.contains("large")); figures.forEach(figure => enlarge(figure, large)); } } }[event.key];
    if (does) { event.preventDefault(); does(); }
  });

  /* on paper */
  let before = [];
  addEventListener("beforeprint", () => {
    before = all("details").map(box => [box, box.open]);
    all("details.case[data-print], main details:has(> .sentences)").forEach(box => { box.open = true; });
  });
  addEventListener("afterprint", () => before.forEach(([box, wasOpen]) => { box.open = wasOpen; }));
})();
