'use strict';
(() => {
  const frames = [...document.querySelectorAll('a.frame[data-card]')];
  const large = document.getElementById('large');
  if (!frames.length || !large) return;
  const image = large.querySelector('img');
  const words = document.getElementById('large-words');
  const file = large.querySelector('a.button');
  let at = 0;

  function show(number) {
    at = (number + frames.length) % frames.length;
    const small = frames[at].querySelector('img');
    image.src = small.src;
    image.alt = small.alt;
    words.textContent = small.alt + ' — ' + frames[at].parentElement.querySelector('b').textContent;
    file.href = frames[at].getAttribute('href');
    if (!large.open) large.showModal();
  }

  function below(number) {
    const here = frames[number].getBoundingClientRect();
    return frames.findIndex((frame, other) => {
      const there = frame.getBoundingClientRect();
      return other > number && there.top > here.top + 4 && Math.abs(there.left - here.left) < 4;
    });
  }

  function above(number) {
    const here = frames[number].getBoundingClientRect();
    return frames.findLastIndex((frame, other) => {
      const there = frame.getBoundingClientRect();
      return other < number && there.top < here.top - 4 && Math.abs(there.left - here.left) < 4;
    });
  }

  frames.forEach((frame, number) => frame.addEventListener('click', (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    show(number);
  }));
  large.querySelectorAll('[data-go]').forEach((button) =>
    button.addEventListener('click', () => show(at + Number(button.dataset.go))));
  large.querySelector('[data-close]').addEventListener('click', () => large.close());
  large.querySelector('.stage').addEventListener('click', (event) => {
    if (event.target !== image) large.close();
  });
  large.addEventListener('close', () => frames[at].focus());

  document.addEventListener('keydown', (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (large.open) {
      if (step) { event.preventDefault(); show(at + step); }
      return;
    }
    const number = frames.indexOf(document.activeElement);
    let next = -1;
    if (number < 0) {
      if (step || event.key === 'Enter') next = step === -1 ? frames.length - 1 : 0;
      if (event.key === 'Enter' && document.activeElement !== document.body) return;
    } else if (step) {
      next = number + step;
    } else if (event.key === 'ArrowDown') {
      next = below(number);
    } else if (event.key === 'ArrowUp') {
      next = above(number);
    }
    if (next >= 0 && next < frames.length) { event.preventDefault(); frames[next].focus(); }
  });
})();
