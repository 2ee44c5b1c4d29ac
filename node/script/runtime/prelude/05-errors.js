// How an error is put in words: for the host, for the log.
(function (host, library) {
  const isOurs = (line) => /\(?skein:[\w.-]+(:\d+)*\)?$/.test(line) || /\(native\)$/.test(line);

  // The lines of a stack that are the author's.
  library.cleanStack = (stack) =>
    stack
      .split('\n')
      .filter((line) => line.trim() !== '' && !isOurs(line))
      .join('\n');

  // `file:line:column` of the first line of a stack that is the author's.
  const place = (stack) => {
    for (const line of stack.split('\n')) {
      if (line.trim() === '' || isOurs(line)) continue;
      const found = /\(?([^()\s][^()]*:\d+:\d+)\)?$/.exec(line.trim().replace(/^at /, ''));
      if (found) return found[1];
    }
    return '';
  };

  library.headline = (error) => {
    try {
      const name = String(error.name ?? 'Error');
      const message = String(error.message ?? '');
      return message ? `${name}: ${message}` : name;
    } catch {
      return 'Error';
    }
  };

  const isError = (value) => Error.isError(value) || (typeof value === 'object' && value !== null && typeof value.stack === 'string');

  // One line with name, message and place. What else there is to say goes to the log.
  library.describe = (error) => {
    if (!isError(error)) {
      const text = typeof error === 'string' ? error : library.inspect(error);
      return `thrown: ${text}`;
    }
    const head = library.headline(error);
    const stack = typeof error.stack === 'string' ? error.stack : '';
    const at = place(stack);
    const lines = library.cleanStack(stack);
    if (lines.includes('\n') || error.cause !== undefined) library.log(error);
    return at && !head.includes(at) ? `${head} (${at})` : head;
  };

  // Promises that were rejected while nobody listened, as the engine tells us.
  let rejections = [];
  library.rejected = (promise, reason, isHandled) => {
    if (isHandled) rejections = rejections.filter((entry) => entry.promise !== promise);
    else if (rejections.length < 16) rejections.push({ promise, reason });
  };
  library.endRejections = (isLogged) => {
    const left = rejections;
    rejections = [];
    if (isLogged) for (const { reason } of left) library.log('unhandled rejection:', reason);
  };
});
