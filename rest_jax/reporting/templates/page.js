// The sample browser's filter. The completions are already in the page; this
// hides those that are not asked for, and makes no markup of its own. At most
// `limit` problems stand at once.
(function () {
  'use strict';
  const root = document.getElementById('browser');
  if (!root) return;
  const controls = root.querySelector('.controls');
  const output = controls.querySelector('output');
  const words = controls.querySelector('input[name=words]');
  const selects = Array.from(controls.querySelectorAll('select'));
  const problems = Array.from(root.querySelectorAll('.problem'), (element) => ({
    element,
    split: element.dataset.split,
    text: element.querySelector('.question').textContent.toLowerCase(),
    completions: Array.from(
      element.querySelectorAll('.completion'),
      (completion) => ({
        element: completion,
        data: completion.dataset,
        text: completion.textContent.toLowerCase(),
      })
    ),
  }));

  const step = 10;
  let limit = step;
  const more = root.querySelector('.more');

  function update() {
    const asked = {};
    for (const select of selects) asked[select.name] = select.value;
    const needle = words.value.trim().toLowerCase();
    let shown = 0;
    let found = 0;
    for (const problem of problems) {
      const here = !asked.split || problem.split === asked.split;
      const inQuestion = problem.text.includes(needle);
      let any = false;
      for (const one of problem.completions) {
        const visible = here &&
          (!asked.source || one.data.source === asked.source) &&
          (!asked.outcome || one.data.outcome === asked.outcome) &&
          (inQuestion || one.text.includes(needle));
        one.element.hidden = !visible;
        any = any || visible;
        shown += visible ? 1 : 0;
      }
      found += any ? 1 : 0;
      problem.element.hidden = !any || found > limit;
    }
    output.textContent = shown + (shown === 1 ? ' completion' : ' completions') +
      ' of ' + found + (found === 1 ? ' problem' : ' problems') +
      (found > limit ? '; the first ' + limit + ' problems are below' : '');
    more.hidden = found <= limit;
  }

  controls.hidden = false;
  controls.addEventListener('submit', (event) => event.preventDefault());
  function restart() {
    limit = step;
    update();
  }
  controls.addEventListener('input', restart);
  controls.addEventListener('reset', () => setTimeout(restart, 0));
  more.addEventListener('click', () => {
    limit += step;
    update();
  });
  update();
})();
