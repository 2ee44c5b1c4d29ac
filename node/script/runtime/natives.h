/* The functions that the prelude calls: bytes and text to and from the host. Part of runtime.c. */

#define NATIVE(name) static JSValue native_##name(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv)

/* Bytes of a string (as UTF-8) or of a Uint8Array, until `release`. */
typedef struct {
  const uint8_t *at;
  size_t length;
  const char *text;
} Bytes;

static bool borrow(JSContext *ctx, Bytes *bytes, JSValueConst value) {
  bytes->text = NULL;
  if (JS_GetTypedArrayType(value) == JS_TYPED_ARRAY_UINT8) {
    bytes->at = JS_GetUint8Array(ctx, &bytes->length, value);
    return bytes->at != NULL || bytes->length == 0;
  }
  bytes->text = JS_ToCStringLen(ctx, &bytes->length, value);
  bytes->at = (const uint8_t *)bytes->text;
  return bytes->text != NULL;
}

static void release(JSContext *ctx, Bytes *bytes) {
  if (bytes->text)
    JS_FreeCString(ctx, bytes->text);
}

NATIVE(log) {
  Bytes text;
  if (!borrow(ctx, &text, argv[0]))
    return JS_EXCEPTION;
  host_log(text.at, text.length);
  release(ctx, &text);
  return JS_UNDEFINED;
}

NATIVE(output) {
  Bytes bytes;
  if (!borrow(ctx, &bytes, argv[0]))
    return JS_EXCEPTION;
  host_output(bytes.at, bytes.length);
  release(ctx, &bytes);
  return JS_UNDEFINED;
}

/* encode(text) -> Uint8Array */
NATIVE(encode) {
  size_t length;
  const char *text = JS_ToCStringLen(ctx, &length, argv[0]);
  if (!text)
    return JS_EXCEPTION;
  JSValue bytes = JS_NewUint8ArrayCopy(ctx, (const uint8_t *)text, length);
  JS_FreeCString(ctx, text);
  return bytes;
}

/* Length of the well-formed UTF-8 sequence at `at`, 0 if there is none (RFC 3629). */
static size_t sequence(const uint8_t *at, size_t left) {
  uint8_t first = at[0];
  if (first < 0x80)
    return 1;
  size_t length = first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
  if (length == 0 || left < length)
    return 0;
  uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (at[1] < low || at[1] > high)
    return 0;
  for (size_t next = 2; next < length; next++)
    if (at[next] < 0x80 || at[next] > 0xbf)
      return 0;
  return length;
}

/* decode(bytes) -> the text, or undefined if the bytes are not well-formed UTF-8 */
NATIVE(decode) {
  Bytes bytes;
  if (!borrow(ctx, &bytes, argv[0]))
    return JS_EXCEPTION;
  for (size_t at = 0; at < bytes.length;) {
    size_t length = sequence(bytes.at + at, bytes.length - at);
    if (length == 0) {
      release(ctx, &bytes);
      return JS_UNDEFINED;
    }
    at += length;
  }
  JSValue text = JS_NewStringLen(ctx, (const char *)bytes.at, bytes.length);
  release(ctx, &bytes);
  return text;
}

/* random(bytes): fills them */
NATIVE(random) {
  size_t length;
  uint8_t *bytes = JS_GetUint8Array(ctx, &length, argv[0]);
  if (!bytes && length > 0)
    return JS_EXCEPTION;
  if (length > 0 && __wasi_random_get(bytes, length) != 0)
    return JS_ThrowInternalError(ctx, "the host has no random bytes");
  return JS_UNDEFINED;
}

/* monotonic() -> milliseconds since some time that stays the same during a call */
NATIVE(monotonic) {
  __wasi_timestamp_t nanoseconds = 0;
  (void)__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 1000, &nanoseconds);
  return JS_NewFloat64(ctx, (double)nanoseconds / 1e6);
}

/* invoke(reference, headers, payload) -> number of the request */
NATIVE(invoke) {
  Bytes reference, headers, payload;
  JSValue request = JS_EXCEPTION;
  if (borrow(ctx, &reference, argv[0])) {
    if (borrow(ctx, &headers, argv[1])) {
      if (borrow(ctx, &payload, argv[2])) {
        request = JS_NewInt32(ctx, host_invoke(reference.at, reference.length, headers.at, headers.length, payload.at,
                                               payload.length));
        release(ctx, &payload);
      }
      release(ctx, &headers);
    }
    release(ctx, &reference);
  }
  return request;
}

/* http(head, body) -> number of the request */
NATIVE(http) {
  Bytes head, body;
  JSValue request = JS_EXCEPTION;
  if (borrow(ctx, &head, argv[0])) {
    if (borrow(ctx, &body, argv[1])) {
      request = JS_NewInt32(ctx, host_http(head.at, head.length, body.at, body.length));
      release(ctx, &body);
    }
    release(ctx, &head);
  }
  return request;
}

/* wait(milliseconds) -> number of a request that was answered, 0 if time passed; below 0 waits for a request */
NATIVE(wait) {
  double milliseconds;
  if (JS_ToFloat64(ctx, &milliseconds, argv[0]))
    return JS_EXCEPTION;
  int64_t microseconds = milliseconds < 0 ? -1 : milliseconds < 1e12 ? (int64_t)ceil(milliseconds * 1000) : INT64_MAX;
  return JS_NewInt32(ctx, host_wait(microseconds));
}

/* answer(request) -> [whether it failed, bytes] */
NATIVE(answer) {
  int32_t request;
  if (JS_ToInt32(ctx, &request, argv[0]))
    return JS_EXCEPTION;
  int64_t answer = host_answer(request);
  size_t length = (uint32_t)answer;
  uint8_t *bytes = js_malloc(ctx, length ? length : 1);
  if (!bytes)
    return JS_EXCEPTION;
  host_take(request, bytes);
  JSValue values[] = {JS_NewBool(ctx, answer >> 32 != 0), JS_NewUint8ArrayCopy(ctx, bytes, length)};
  js_free(ctx, bytes);
  return JS_NewArrayFrom(ctx, countof(values), values);
}

NATIVE(cancel) {
  int32_t request;
  if (JS_ToInt32(ctx, &request, argv[0]))
    return JS_EXCEPTION;
  host_cancel(request);
  return JS_UNDEFINED;
}

/* paths() -> the files' paths, in their order */
NATIVE(paths) {
  JSValue list = JS_NewArray(ctx);
  for (uint32_t at = 0; at < file_count; at++)
    JS_SetPropertyUint32(ctx, list, at, JS_NewString(ctx, files[at].path));
  return list;
}

/* text(index) -> a file's text */
NATIVE(text) {
  uint32_t index;
  if (JS_ToUint32(ctx, &index, argv[0]))
    return JS_EXCEPTION;
  if (index >= file_count)
    return JS_ThrowRangeError(ctx, "no such file");
  return JS_NewStringLen(ctx, files[index].bytes, files[index].length);
}

/* compile(index) -> function (exports, require, module, __filename, __dirname) of a CommonJS file. The line before its
 * first is line 0, so that lines and columns in errors are those of the file. */
NATIVE(compile) {
  static const char before[] = "(function (exports, require, module, __filename, __dirname) {\n", after[] = "\n})";
  uint32_t index;
  if (JS_ToUint32(ctx, &index, argv[0]))
    return JS_EXCEPTION;
  if (index >= file_count)
    return JS_ThrowRangeError(ctx, "no such file");
  const File *file = &files[index];
  size_t head = sizeof before - 1, tail = sizeof after - 1, total = head + file->length + tail;
  char *text = js_malloc(ctx, total + 1);
  if (!text)
    return JS_EXCEPTION;
  memcpy(text, before, head);
  memcpy(text + head, file->bytes, file->length);
  if (file->length > 1 && memcmp(file->bytes, "#!", 2) == 0)
    memcpy(text + head, "//", 2);
  memcpy(text + head + file->length, after, tail + 1);
  JSEvalOptions options = {JS_EVAL_OPTIONS_VERSION, JS_EVAL_TYPE_GLOBAL | JS_EVAL_FLAG_BACKTRACE_BARRIER, file->path, 0};
  JSValue function = JS_Eval2(ctx, text, total, &options);
  js_free(ctx, text);
  return function;
}

NATIVE(namespace); /* both in modules.h */
NATIVE(require);

static JSValue natives(void) {
  static const struct {
    const char *name;
    JSCFunction *function;
    int arguments;
  } table[] = {
      {"log", native_log, 1},         {"output", native_output, 1},       {"encode", native_encode, 1},
      {"decode", native_decode, 1},   {"random", native_random, 1},       {"monotonic", native_monotonic, 0},
      {"invoke", native_invoke, 3},   {"http", native_http, 2},           {"wait", native_wait, 1},
      {"answer", native_answer, 1},   {"cancel", native_cancel, 1},       {"paths", native_paths, 0},
      {"text", native_text, 1},       {"compile", native_compile, 1},     {"namespace", native_namespace, 1},
      {"require", native_require, 1},
  };
  JSValue object = JS_NewObject(context);
  for (size_t at = 0; at < countof(table); at++)
    JS_SetPropertyStr(context, object, table[at].name,
                      JS_NewCFunction(context, table[at].function, table[at].name, table[at].arguments));
  return object;
}
