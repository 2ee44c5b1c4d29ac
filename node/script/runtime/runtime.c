/* The guest that runs scripts: QuickJS behind five exports and the imports of the module `skein`.
 *
 * Life of an instance: `_initialize` makes the engine and runs the prelude; `skein_reseed` and `skein_load` take the
 * author's files; from then on every call is `skein_reseed`, `skein_alloc`, `skein_handle`. The host may keep an image of
 * the memory between any two of these, since nothing is kept outside of it. docs/script.md describes the interface.
 */
#include "quickjs.c"

#include <wasi/api.h>

#define IMPORT(name) __attribute__((import_module("skein"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name), visibility("default")))

IMPORT("log") void host_log(const void *text, uint32_t length);
IMPORT("output") void host_output(const void *bytes, uint32_t length);
IMPORT("fail") void host_fail(const void *text, uint32_t length);
IMPORT("invoke") int32_t host_invoke(const void *reference, uint32_t reference_length, const void *headers,
                                     uint32_t headers_length, const void *payload, uint32_t payload_length);
IMPORT("http") int32_t host_http(const void *head, uint32_t head_length, const void *body, uint32_t body_length);
IMPORT("wait") int32_t host_wait(int64_t microseconds);
IMPORT("answer") int64_t host_answer(int32_t request);
IMPORT("take") void host_take(int32_t request, void *target);
IMPORT("cancel") void host_cancel(int32_t request);

/* What JavaScript may use of the 1 MiB stack in linear memory. Less than all of it, so that a recursion ends as a
 * RangeError, which a script may catch, before this stack or the host's own is exhausted. */
#define SCRIPT_STACK_BYTES (256 * 1024)
/* Room that an image has beyond what the script's top level used: so much a call allocates before memory grows. */
#define ROOM_BYTES (2 * 1024 * 1024)
/* Garbage is first looked for when the heap has grown by this since the script was loaded: walking it touches every
 * page of an image, which costs a short call more than the garbage would. */
#define GARBAGE_BYTES (4 * 1024 * 1024)

typedef struct {
  char *path;
  const char *bytes; /* followed by a NUL, as the parser wants it */
  uint32_t length;
} File;

static JSRuntime *runtime;
static JSContext *context;
static JSValue host;    /* what the prelude calls us by */
static JSValue library; /* what the prelude offers us */
static File *files;
static uint32_t file_count;
static char *bundle;
static int is_loaded;

#include "natives.h"
#include "modules.h"

/* --- the C library, without the parts of WASI that a script has no use for ------------------------------------------ */

#define STUB(name, ...) int32_t __imported_wasi_snapshot_preview1_##name(__VA_ARGS__)
STUB(fd_close, int32_t fd) { (void)fd; return __WASI_ERRNO_BADF; }
STUB(fd_read, int32_t fd, int32_t vectors, int32_t count, int32_t done) {
  (void)fd, (void)vectors, (void)count, (void)done;
  return __WASI_ERRNO_BADF;
}
STUB(fd_seek, int32_t fd, int64_t offset, int32_t whence, int32_t at) {
  (void)fd, (void)offset, (void)whence, (void)at;
  return __WASI_ERRNO_SPIPE;
}
STUB(fd_fdstat_get, int32_t fd, int32_t target) { (void)fd, (void)target; return __WASI_ERRNO_BADF; }
STUB(fd_write, int32_t fd, int32_t vectors, int32_t count, int32_t done) {
  /* Only the engine's own complaints come here. */
  const __wasi_ciovec_t *vector = (const __wasi_ciovec_t *)vectors;
  uint32_t total = 0;
  (void)fd;
  for (int32_t at = 0; at < count; at++) {
    host_log(vector[at].buf, vector[at].buf_len);
    total += vector[at].buf_len;
  }
  *(uint32_t *)done = total;
  return 0;
}

/* --- errors ----------------------------------------------------------------------------------------------------------- */

static void fail_plainly(const char *text) { host_fail(text, strlen(text)); }

/* Tells the host of `error`, which is freed. The words are the prelude's; ours if it cannot find any. */
static void fail_with(JSValue error) {
  JSValue describe = JS_GetPropertyStr(context, library, "describe");
  JSValue text = JS_Call(context, describe, JS_UNDEFINED, 1, &error);
  size_t length;
  const char *bytes = JS_IsString(text) ? JS_ToCStringLen(context, &length, text) : NULL;
  if (bytes) {
    host_fail(bytes, length);
    JS_FreeCString(context, bytes);
  } else {
    JS_FreeValue(context, JS_GetException(context));
    fail_plainly(JS_IsNull(error) ? "InternalError: out of memory" : "InternalError: an error that cannot be described");
  }
  JS_FreeValue(context, text);
  JS_FreeValue(context, describe);
  JS_FreeValue(context, error);
}

static void fail_with_exception(void) { fail_with(JS_GetException(context)); }

/* --- the loop --------------------------------------------------------------------------------------------------------- */

/* Runs until `promise` is settled. False if an error ended the loop first: it has been told then. */
static bool settle(JSValueConst promise) {
  JSContext *unused;
  for (;;) {
    while (JS_PromiseState(context, promise) == JS_PROMISE_PENDING && JS_IsJobPending(runtime)) {
      if (JS_ExecutePendingJob(runtime, &unused) < 0) {
        fail_with_exception();
        return false;
      }
    }
    if (JS_PromiseState(context, promise) != JS_PROMISE_PENDING)
      return true;
    JSValue turn = JS_GetPropertyStr(context, library, "turn");
    JSValue went_on = JS_Call(context, turn, JS_UNDEFINED, 0, NULL);
    JS_FreeValue(context, turn);
    if (JS_IsException(went_on)) {
      fail_with_exception();
      return false;
    }
    if (!JS_ToBool(context, went_on) && !JS_IsJobPending(runtime)) {
      fail_plainly("the promise never settles: no timer, call or request is left that could settle it");
      return false;
    }
  }
}

/* Runs until `promise`, which is freed, is settled. True if it was fulfilled; what went wrong has been told if not. */
static bool fulfil(JSValue promise) {
  if (JS_IsException(promise)) {
    fail_with_exception();
    return false;
  }
  bool is_fulfilled = false;
  if (!JS_IsPromise(promise)) {
    is_fulfilled = true;
  } else if (settle(promise)) {
    is_fulfilled = JS_PromiseState(context, promise) == JS_PROMISE_FULFILLED;
    if (!is_fulfilled)
      fail_with(JS_PromiseResult(context, promise));
  }
  JS_FreeValue(context, promise);
  return is_fulfilled;
}

/* Forgets what is left to do: nothing of one call goes on in the next. */
static void drop_jobs(void) {
  struct list_head *entry, *next;
  list_for_each_safe(entry, next, &runtime->job_list) {
    JSJobEntry *job = list_entry(entry, JSJobEntry, link);
    list_del(&job->link);
    for (int at = 0; at < job->argc; at++)
      JS_FreeValue(job->ctx, job->argv[at]);
    js_free(context, job);
  }
}

static void on_rejection(JSContext *ctx, JSValueConst promise, JSValueConst reason, bool is_handled, void *opaque) {
  (void)opaque;
  JSValueConst arguments[] = {promise, reason, JS_NewBool(ctx, is_handled)};
  JSValue rejected = JS_GetPropertyStr(ctx, library, "rejected");
  JS_FreeValue(ctx, JS_Call(ctx, rejected, JS_UNDEFINED, countof(arguments), arguments));
  JS_FreeValue(ctx, rejected);
}

/* --- what the host calls ---------------------------------------------------------------------------------------------- */

typedef struct {
  const char *name;
  const char *text;
  uint32_t length;
} Prelude;

#include "prelude.h" /* made by build.rs: `static const Prelude prelude[]` */

__attribute__((constructor)) static void initialize(void) {
  runtime = JS_NewRuntime();
  JS_SetMaxStackSize(runtime, SCRIPT_STACK_BYTES);
  JS_SetGCThreshold(runtime, (size_t)-1);
  context = JS_NewContext(runtime);
  host = natives();
  library = JS_NewObject(context);
  JS_SetModuleLoaderFunc2(runtime, NULL, load_module, NULL, NULL);
  JS_SetModuleNormalizeFunc2(runtime, resolve_module);
  JS_SetHostPromiseRejectionTracker(runtime, on_rejection, NULL);
  for (size_t at = 0; at < countof(prelude); at++) {
    JSValue part = JS_Eval(context, prelude[at].text, prelude[at].length, prelude[at].name, JS_EVAL_FLAG_STRICT);
    JSValueConst arguments[] = {host, library};
    JSValue done = JS_IsException(part) ? part : JS_Call(context, part, JS_UNDEFINED, 2, arguments);
    if (JS_IsException(done)) {
      JSValue error = JS_GetException(context);
      JSValue stack = JS_GetPropertyStr(context, error, "stack");
      const char *message = JS_ToCString(context, error), *trace = JS_ToCString(context, stack);
      host_log(message, strlen(message));
      host_log(trace, strlen(trace));
      __builtin_trap(); /* the prelude is ours: a test runs it */
    }
    JS_FreeValue(context, done);
    JS_FreeValue(context, part);
  }
}

/* Where the host writes what it passes next. Null if there is no memory. */
EXPORT("skein_alloc") void *skein_alloc(uint32_t length) { return malloc(length ? length : 1); }

/* Starts the script's randomness anew: what an image has frozen is the same in every instance made of it. The seed of
 * hash tables can change only until there is one, which is before the script is loaded. */
EXPORT("skein_reseed") void skein_reseed(uint64_t seed) {
  context->random_state = seed ? seed : 1;
  if (!is_loaded)
    context->hash_seed = xorshift64star(&context->random_state);
}

/* Takes the files, in memory of `skein_alloc` that is ours from now on, and runs the entry's top level.
 * 0: it is ready. 1: it is not, and `fail` was told why. 2: ready, but its top level used Math.random. */
EXPORT("skein_load") int32_t skein_load(char *bytes, uint32_t length) {
  JS_UpdateStackTop(runtime);
  bundle = bytes;
  const char *entry = read_files(length);
  if (!entry) {
    fail_plainly("the bundle is malformed");
    return 1;
  }
  is_loaded = 1;
  uint64_t random_before = context->random_state;
  JSValue load = JS_GetPropertyStr(context, library, "load");
  JSValue path = JS_NewString(context, entry);
  JSValue promise = JS_Call(context, load, JS_UNDEFINED, 1, &path);
  JS_FreeValue(context, path);
  JS_FreeValue(context, load);
  if (!fulfil(promise))
    return 1;
  JS_RunGC(runtime);
  JS_SetGCThreshold(runtime, runtime->malloc_state.malloc_size + GARBAGE_BYTES);
  free(malloc(ROOM_BYTES));
  return context->random_state == random_before ? 0 : 2;
}

/* Handles one call, in memory of `skein_alloc` that is freed: milliseconds left (f64), length of the environment (u32),
 * the environment as NAME=VALUE each followed by a NUL, the payload.
 * 0: handled, the result went to `output`. 1: failed, and `fail` was told why. */
EXPORT("skein_handle") int32_t skein_handle(uint8_t *frame, uint32_t length) {
  JS_UpdateStackTop(runtime);
  double left_ms;
  uint32_t environment;
  const uint32_t head = sizeof left_ms + sizeof environment;
  if (length < head)
    return fail_plainly("the call is malformed"), 1;
  memcpy(&left_ms, frame, sizeof left_ms);
  memcpy(&environment, frame + sizeof left_ms, sizeof environment);
  if (environment > length - head)
    return fail_plainly("the call is malformed"), 1;
  const uint8_t *payload = frame + head + environment;
  JSValue arguments[] = {
      JS_NewFloat64(context, left_ms),
      JS_NewStringLen(context, (const char *)frame + head, environment),
      JS_NewUint8ArrayCopy(context, payload, length - head - environment),
  };
  free(frame);
  JSValue handle = JS_GetPropertyStr(context, library, "handle");
  JSValue promise = JS_Call(context, handle, JS_UNDEFINED, countof(arguments), arguments);
  JS_FreeValue(context, handle);
  for (size_t at = 0; at < countof(arguments); at++)
    JS_FreeValue(context, arguments[at]);
  bool is_handled = fulfil(promise);
  drop_jobs();
  JSValue end = JS_GetPropertyStr(context, library, "end");
  JS_FreeValue(context, JS_Call(context, end, JS_UNDEFINED, 0, NULL));
  JS_FreeValue(context, end);
  return is_handled ? 0 : 1;
}
