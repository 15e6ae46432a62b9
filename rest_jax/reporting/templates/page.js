// The sample browser's filter, and, under `rest-jax view`, what keeps the page
// up to date. In the static page all completions are there already: the filter
// hides those that are not asked for. Under `view` it asks the server for them,
// which sends HTML whose texts it has escaped.
(function () {
  'use strict';
  const live = document.body.dataset.live;
  const step = 10; // problems that are shown at once

  async function ask(path, values) {
    const answer = await fetch(path + '?' + new URLSearchParams(values));
    if (!answer.ok) throw new Error(path + ': ' + answer.status);
    return answer.json();
  }

  function counted(number, noun) {
    return number.toLocaleString('en') + ' ' + noun + (number === 1 ? '' : 's');
  }

  function browse(root) {
    const controls = root && root.querySelector('.controls');
    if (!controls) return;
    const output = controls.querySelector('output');
    const list = root.querySelector('.articles');
    const more = root.querySelector('.more');
    let limit = step;
    let turn = 0; // answers of an earlier question are dropped

    function asked() {
      return Object.fromEntries(new FormData(controls));
    }

    function hide(articles) {
      const values = asked();
      const needle = values.words.trim().toLowerCase();
      let shown = 0;
      let found = 0;
      for (const one of articles) {
        const here = (!values.split || one.dataset.split === values.split) &&
          (!values.change || one.dataset.change === values.change);
        const question = one.querySelector('.question').textContent;
        const inQuestion = (one.dataset.id + question).toLowerCase()
          .includes(needle);
        let any = false;
        for (const model of one.querySelectorAll('.model')) {
          let some = false;
          for (const row of model.querySelectorAll('.completion')) {
            const visible = here &&
              (!values.source || row.dataset.source === values.source) &&
              (!values.outcome || row.dataset.outcome === values.outcome) &&
              (inQuestion || row.textContent.toLowerCase().includes(needle));
            row.hidden = !visible;
            some = some || visible;
            shown += visible ? 1 : 0;
          }
          model.hidden = !some;
          any = any || some;
        }
        found += any ? 1 : 0;
        one.hidden = !any || found > limit;
      }
      output.textContent = counted(shown, 'completion') + ' of ' +
        counted(found, 'problem') +
        (found > limit ? '; the first ' + limit + ' problems are below' : '');
      more.hidden = found <= limit;
    }

    function activate() {
      for (const button of list.querySelectorAll('.all')) button.hidden = false;
    }

    async function load(start) {
      const mine = ++turn;
      const page = await ask('problems', {...asked(), start, limit: step});
      if (mine !== turn) return;
      if (!start) list.replaceChildren();
      list.insertAdjacentHTML('beforeend', page.html);
      output.textContent = counted(page.found, 'problem') + ', ' +
        Math.min(start + step, page.found).toLocaleString('en') + ' shown';
      more.hidden = start + step >= page.found;
      activate();
    }

    async function replace(element, values) {
      const page = await ask('problem', values);
      if (element) element.remove();
      list.insertAdjacentHTML('afterbegin', page.html);
      activate();
      list.firstElementChild.scrollIntoView();
    }

    function show() {
      if (live) load(limit - step);
      else hide(list.children);
    }

    function restart() {
      limit = step;
      show();
    }

    // A link to one problem shows it, whatever is filtered.
    function follow() {
      const anchor = decodeURIComponent(location.hash.slice(1));
      if (!anchor.startsWith('p/')) return;
      const target = document.getElementById(anchor);
      if (target) {
        target.hidden = false;
        for (const row of target.querySelectorAll('[hidden]:not(.all)')) {
          row.hidden = false;
        }
        target.scrollIntoView();
      } else if (live) {
        replace(null, {anchor});
      }
    }

    controls.hidden = false;
    controls.addEventListener('submit', (event) => event.preventDefault());
    let timer = 0;
    controls.addEventListener('input', () => {
      clearTimeout(timer);
      timer = setTimeout(restart, live ? 250 : 0);
    });
    controls.addEventListener('reset', () => setTimeout(restart, 0));
    more.addEventListener('click', () => {
      limit += step;
      show();
    });
    list.addEventListener('click', (event) => {
      const article = event.target.closest('.all') &&
        event.target.closest('.problem');
      if (article) replace(article, {anchor: article.id, all: 1});
    });
    window.addEventListener('hashchange', follow);
    if (live) load(0).then(follow);
    else {
      show();
      follow();
    }
  }

  // ---- under `rest-jax view`: what has changed since --------------------------

  // The parts that change while a run goes; filters and scroll stay.
  function parts(root) {
    return new Map(Array.from(
      root.querySelectorAll('header, section:not(#browser)'),
      (element) => [element.id || element.tagName, element]
    ));
  }

  async function refresh() {
    const text = await (await fetch('.')).text();
    const fresh = new DOMParser().parseFromString(text, 'text/html');
    const old = parts(document);
    for (const [name, element] of parts(fresh)) {
      const before = old.get(name);
      if (!before || before.isEqualNode(element)) continue;
      const open = Array.from(before.querySelectorAll('details'), (d) => d.open);
      element.querySelectorAll('details').forEach((details, i) => {
        details.open = Boolean(open[i]);
      });
      before.replaceWith(element);
    }
    const browser = document.getElementById('browser');
    if (!browser.querySelector('.controls')) {
      browser.replaceWith(fresh.getElementById('browser'));
      browse(document.getElementById('browser'));
    }
    document.body.dataset.live = fresh.body.dataset.live;
  }

  async function watch() {
    try {
      const state = await ask('state', {});
      if (state.digest !== document.body.dataset.live) await refresh();
    } catch (error) {
      // The server was stopped; it may be started again.
    }
    setTimeout(watch, 3000);
  }

  browse(document.getElementById('browser'));
  if (live) setTimeout(watch, 3000);
})();
