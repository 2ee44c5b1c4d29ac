// The timers that run, in the order in which they are due.
(function (host, library) {
  library.Timers = class Timers {
    #list = [];
    #id = 0;

    add(timer) {
      const added = { ...timer, id: timer.id ?? (this.#id += 1) };
      // Behind all that are due at the same time: first come, first served.
      let low = 0;
      let high = this.#list.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (this.#list[middle].due <= added.due) low = middle + 1;
        else high = middle;
      }
      this.#list.splice(low, 0, added);
      return added.id;
    }

    next() {
      return this.#list[0];
    }

    remove(id) {
      const at = this.#list.findIndex((timer) => timer.id === id);
      if (at >= 0) this.#list.splice(at, 1);
    }

    shift(milliseconds) {
      for (const timer of this.#list) timer.due += milliseconds;
    }

    clear() {
      this.#list = [];
    }
  };
});
