// setTimeout and its family, performance.now, and the turn of the loop that wakes what waits.
(function (host, library) {
  const timers = new library.Timers();
  // What waits for the host's answers: request number to the function that takes it.
  let requests = Object.create(null);
  let requestCount = 0;
  // When the call began; unset before the first.
  let origin;
  let pendingError = null;

  const now = () => host.monotonic();

  // An error in a callback that nobody waits for: it ends the call, as it would end a program.
  library.uncaught = (error) => {
    pendingError ??= { error };
  };

  library.timer = (callback, milliseconds, { args = [], isRepeated = false } = {}) => {
    const wait = Number.isFinite(+milliseconds) && +milliseconds >= 1 ? Math.min(Math.floor(+milliseconds), 2147483647) : 1;
    return timers.add({ callback, args, wait, due: now() + wait, isRepeated });
  };

  library.request = (number, settle) => {
    requests[number] = settle;
    requestCount += 1;
    return () => {
      if (!requests[number]) return;
      delete requests[number];
      requestCount -= 1;
      host.cancel(number);
    };
  };

  const answered = (number) => {
    const settle = requests[number];
    if (!settle) return;
    delete requests[number];
    requestCount -= 1;
    settle(...host.answer(number));
  };

  // Waits for what comes next and does it. False if nothing can come any more.
  library.turn = () => {
    const next = timers.next();
    if (!next && requestCount === 0) return false;
    const wait = next ? Math.max(next.due - now(), 0) : -1;
    if (requestCount > 0 || wait > 0) {
      const number = host.wait(wait);
      if (number > 0) answered(number);
    }
    const time = now();
    // One timer at a time: what it promised is dealt with before the next one.
    const due = timers.next();
    if (due && due.due <= time) {
      timers.remove(due.id);
      if (due.isRepeated) timers.add({ ...due, due: time + due.wait });
      due.callback(...due.args);
    }
    if (pendingError) {
      const { error } = pendingError;
      pendingError = null;
      throw error;
    }
    return true;
  };

  // Nothing of one call goes on in the next.
  library.endTimers = () => {
    timers.clear();
    for (const number of Object.keys(requests)) host.cancel(Number(number));
    requests = Object.create(null);
    requestCount = 0;
    pendingError = null;
  };

  library.beginTimers = () => {
    // An image may be older than the clock's start: what waits since then waits from now on.
    const began = now();
    if (origin !== undefined) timers.shift(began - origin);
    origin = began;
  };

  const callable = (callback) => {
    if (typeof callback !== 'function') throw new TypeError('a timer needs a function');
    return callback;
  };

  library.define({
    setTimeout: (callback, milliseconds, ...args) => library.timer(callable(callback), milliseconds, { args }),
    setInterval: (callback, milliseconds, ...args) =>
      library.timer(callable(callback), milliseconds, { args, isRepeated: true }),
    setImmediate: (callback, ...args) => library.timer(callable(callback), 0, { args }),
    clearTimeout: (id) => timers.remove(+id),
    clearInterval: (id) => timers.remove(+id),
    clearImmediate: (id) => timers.remove(+id),
  });
  // The engine's own clock starts with the image; this one with the call.
  class Performance {
    now() {
      const at = now();
      origin ??= at;
      return at - origin;
    }

    get timeOrigin() {
      return Date.now() - this.now();
    }

    toJSON() {
      return { timeOrigin: this.timeOrigin };
    }
  }
  library.define({ Performance, performance: new Performance() });
});
