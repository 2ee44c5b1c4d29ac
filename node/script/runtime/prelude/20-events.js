// Event, CustomEvent, EventTarget, AbortController and AbortSignal (WHATWG DOM), as far as they make sense without a tree.
(function (host, library) {
  const state = Symbol('state');

  class Event {
    constructor(type, options = {}) {
      if (arguments.length === 0) throw new TypeError('an Event needs a type');
      this[state] = { target: null, isStopped: false, isPrevented: false, isDispatched: false };
      Object.defineProperty(this, state, { enumerable: false });
      this.type = String(type);
      this.bubbles = Boolean(options?.bubbles);
      this.cancelable = Boolean(options?.cancelable);
      this.composed = Boolean(options?.composed);
      this.timeStamp = performance.now();
    }

    get target() {
      return this[state].target;
    }

    get currentTarget() {
      return this[state].isDispatched ? this[state].target : null;
    }

    get defaultPrevented() {
      return this[state].isPrevented;
    }

    get isTrusted() {
      return false;
    }

    get eventPhase() {
      return this[state].isDispatched ? 2 : 0;
    }

    composedPath() {
      return this[state].isDispatched ? [this[state].target] : [];
    }

    preventDefault() {
      if (this.cancelable) this[state].isPrevented = true;
    }

    stopPropagation() {}

    stopImmediatePropagation() {
      this[state].isStopped = true;
    }
  }

  class CustomEvent extends Event {
    constructor(type, options = {}) {
      super(type, options);
      this.detail = options?.detail ?? null;
    }
  }

  class EventTarget {
    #listeners = [];

    addEventListener(type, callback, options) {
      if (callback === null || callback === undefined) return;
      const { capture = false, once = false, signal } = typeof options === 'object' && options ? options : { capture: Boolean(options) };
      if (signal?.aborted || this.#find(type, callback, capture) >= 0) return;
      this.#listeners.push({ type: String(type), callback, capture: Boolean(capture), once });
      signal?.addEventListener('abort', () => this.removeEventListener(type, callback, capture));
    }

    removeEventListener(type, callback, options) {
      const capture = typeof options === 'object' && options ? options.capture : options;
      const at = this.#find(type, callback, capture);
      if (at >= 0) this.#listeners.splice(at, 1)[0].isRemoved = true;
    }

    dispatchEvent(event) {
      if (!(event instanceof Event)) throw new TypeError('expected an Event');
      const inner = event[state];
      if (inner.isDispatched) throw new DOMException('the event is being dispatched', 'InvalidStateError');
      Object.assign(inner, { target: this, isDispatched: true, isStopped: false });
      for (const listener of [...this.#listeners]) {
        if (listener.type !== event.type || listener.isRemoved) continue;
        if (listener.once) this.removeEventListener(listener.type, listener.callback, listener.capture);
        try {
          if (typeof listener.callback === 'function') listener.callback.call(this, event);
          else listener.callback.handleEvent(event);
        } catch (error) {
          library.uncaught(error);
        }
        if (inner.isStopped) break;
      }
      inner.isDispatched = false;
      return !inner.isPrevented;
    }

    #find(type, callback, capture) {
      const isThis = (other) => other.type === String(type) && other.callback === callback && other.capture === Boolean(capture);
      return this.#listeners.findIndex(isThis);
    }
  }

  const key = Symbol('only the prelude makes signals');
  let abort;

  class AbortSignal extends EventTarget {
    #isAborted = false;
    #reason;
    onabort = null;

    constructor(by) {
      if (by !== key) throw new TypeError('use an AbortController to make a signal');
      super();
    }

    static {
      abort = (signal, reason = new DOMException('This operation was aborted', 'AbortError')) => {
        if (signal.#isAborted) return;
        signal.#isAborted = true;
        signal.#reason = reason;
        const event = new Event('abort');
        if (typeof signal.onabort === 'function') signal.onabort(event);
        signal.dispatchEvent(event);
      };
    }

    static abort(reason) {
      const signal = new AbortSignal(key);
      abort(signal, reason);
      return signal;
    }

    static timeout(milliseconds) {
      const signal = new AbortSignal(key);
      const why = () => new DOMException('The operation was aborted due to timeout', 'TimeoutError');
      library.timer(() => abort(signal, why()), milliseconds);
      return signal;
    }

    static any(signals) {
      const all = [...signals];
      const joined = new AbortSignal(key);
      const first = all.find((signal) => signal.aborted);
      if (first) abort(joined, first.reason);
      else for (const signal of all) signal.addEventListener('abort', () => abort(joined, signal.reason), { once: true });
      return joined;
    }

    get aborted() {
      return this.#isAborted;
    }

    get reason() {
      return this.#reason;
    }

    throwIfAborted() {
      if (this.#isAborted) throw this.#reason;
    }
  }

  class AbortController {
    #signal = new AbortSignal(key);

    get signal() {
      return this.#signal;
    }

    abort(reason) {
      abort(this.#signal, reason);
    }
  }

  library.define({ Event, CustomEvent, EventTarget, AbortSignal, AbortController });
});
