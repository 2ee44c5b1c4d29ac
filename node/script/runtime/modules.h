/* The author's files, and how the engine gets its modules from them. Part of runtime.c. */

static bool read_u32(const char **at, const char *end, uint32_t *value) {
  if (end - *at < (ptrdiff_t)sizeof *value)
    return false;
  memcpy(value, *at, sizeof *value);
  *at += sizeof *value;
  return true;
}

/* A length and so many bytes, followed by a NUL. */
static const char *read_text(const char **at, const char *end, uint32_t *length) {
  const char *text;
  if (!read_u32(at, end, length) || (size_t)(end - *at) <= *length || (*at)[*length] != 0)
    return NULL;
  text = *at;
  *at += *length + 1;
  return text;
}

/* Reads the table of files in `bundle`: the entry, a number (u32), and that many paths and contents, each a length
 * (u32), bytes and a NUL. Returns the entry, null if something does not fit. */
static const char *read_files(uint32_t length) {
  const char *at = bundle, *end = bundle + length;
  uint32_t count, size;
  const char *entry = read_text(&at, end, &size);
  if (!entry || !read_u32(&at, end, &count) || count > length / 8)
    return NULL;
  files = calloc(count ? count : 1, sizeof *files);
  if (!files)
    return NULL;
  for (file_count = 0; file_count < count; file_count++) {
    File *file = &files[file_count];
    file->path = (char *)read_text(&at, end, &size);
    file->bytes = read_text(&at, end, &file->length);
    if (!file->path || !file->bytes)
      return NULL;
  }
  return entry;
}

static char *resolve_module(JSContext *ctx, const char *base, const char *name, JSValueConst attributes, void *opaque) {
  (void)attributes, (void)opaque;
  JSValue resolve = JS_GetPropertyStr(ctx, library, "resolve");
  JSValue arguments[] = {JS_NewString(ctx, base), JS_NewString(ctx, name)};
  JSValue path = JS_Call(ctx, resolve, JS_UNDEFINED, countof(arguments), arguments);
  for (size_t at = 0; at < countof(arguments); at++)
    JS_FreeValue(ctx, arguments[at]);
  JS_FreeValue(ctx, resolve);
  if (JS_IsException(path))
    return NULL;
  const char *text = JS_ToCString(ctx, path);
  char *copy = text ? js_strdup(ctx, text) : NULL;
  JS_FreeCString(ctx, text);
  JS_FreeValue(ctx, path);
  return copy;
}

/* Gives a module that is no JavaScript module its exports: the pairs kept as its private value. */
static int export_values(JSContext *ctx, JSModuleDef *module) {
  JSValue pairs = JS_GetModulePrivateValue(ctx, module);
  int64_t count = 0;
  int failed = JS_GetLength(ctx, pairs, &count);
  for (int64_t at = 0; !failed && at + 1 < count; at += 2) {
    JSValue name = JS_GetPropertyInt64(ctx, pairs, at);
    const char *text = JS_ToCString(ctx, name);
    failed = !text || JS_SetModuleExport(ctx, module, text, JS_GetPropertyInt64(ctx, pairs, at + 1));
    JS_FreeCString(ctx, text);
    JS_FreeValue(ctx, name);
  }
  JS_FreeValue(ctx, pairs);
  return failed ? -1 : 0;
}

static JSModuleDef *value_module(JSContext *ctx, const char *path, JSValue pairs) {
  JSModuleDef *module = JS_NewCModule(ctx, path, export_values);
  int64_t count = 0;
  int failed = !module || JS_GetLength(ctx, pairs, &count);
  for (int64_t at = 0; !failed && at < count; at += 2) {
    JSValue name = JS_GetPropertyInt64(ctx, pairs, at);
    const char *text = JS_ToCString(ctx, name);
    failed = !text || JS_AddModuleExport(ctx, module, text);
    JS_FreeCString(ctx, text);
    JS_FreeValue(ctx, name);
  }
  if (failed) {
    JS_FreeValue(ctx, pairs);
    return NULL;
  }
  JS_SetModulePrivateValue(ctx, module, pairs);
  return module;
}

static JSModuleDef *source_module(JSContext *ctx, uint32_t index) {
  const File *file = &files[index];
  JSValue module = JS_Eval(ctx, file->bytes, file->length, file->path,
                           JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY | JS_EVAL_FLAG_BACKTRACE_BARRIER);
  if (JS_IsException(module))
    return NULL;
  JSModuleDef *definition = JS_VALUE_GET_PTR(module);
  JSValue meta = JS_GetImportMeta(ctx, definition);
  JSValue describe = JS_GetPropertyStr(ctx, library, "meta");
  JSValue arguments[] = {meta, JS_NewString(ctx, file->path)};
  JSValue done = JS_Call(ctx, describe, JS_UNDEFINED, countof(arguments), arguments);
  bool failed = JS_IsException(done);
  for (size_t at = 0; at < countof(arguments); at++)
    JS_FreeValue(ctx, arguments[at]);
  JS_FreeValue(ctx, describe);
  JS_FreeValue(ctx, done);
  /* The context keeps the module; our reference to it goes. */
  JS_FreeValue(ctx, module);
  return failed ? NULL : definition;
}

/* The prelude says what a path is: the index of a JavaScript module's file, or the exports of anything else. */
static JSModuleDef *load_module(JSContext *ctx, const char *path, void *opaque, JSValueConst attributes) {
  (void)opaque, (void)attributes;
  JSValue name = JS_NewString(ctx, path);
  JSValue provide = JS_GetPropertyStr(ctx, library, "provide");
  JSValue provided = JS_Call(ctx, provide, JS_UNDEFINED, 1, &name);
  JS_FreeValue(ctx, provide);
  JS_FreeValue(ctx, name);
  if (JS_IsException(provided))
    return NULL;
  if (JS_IsObject(provided))
    return value_module(ctx, path, provided);
  uint32_t index;
  if (JS_ToUint32(ctx, &index, provided) || index >= file_count)
    return NULL;
  return source_module(ctx, index);
}

/* namespace(path) -> promise of a module's namespace, evaluated at once */
NATIVE(namespace) {
  const char *path = JS_ToCString(ctx, argv[0]);
  if (!path)
    return JS_EXCEPTION;
  JSValue promise = JS_LoadModule(ctx, "", path, JS_UNDEFINED);
  JS_FreeCString(ctx, path);
  return promise;
}

/* require(path) -> namespace of a JavaScript module, evaluated at once; throws if it awaits at its top level */
NATIVE(require) {
  const char *path = JS_ToCString(ctx, argv[0]);
  if (!path)
    return JS_EXCEPTION;
  JSModuleDef *module = js_host_resolve_imported_module(ctx, "", path, JS_UNDEFINED);
  JS_FreeCString(ctx, path);
  /* What cannot be resolved stays in the engine's list: a module that is being resolved may wait for this one. */
  if (!module || js_resolve_module(ctx, module) < 0)
    return JS_EXCEPTION;
  JSValue promise = JS_EvalFunction(ctx, JS_NewModuleValue(ctx, module));
  if (JS_IsException(promise))
    return JS_EXCEPTION;
  JSPromiseStateEnum state = JS_PromiseState(ctx, promise);
  JSValue result = state == JS_PROMISE_REJECTED ? JS_PromiseResult(ctx, promise) : JS_UNDEFINED;
  if (state == JS_PROMISE_REJECTED)
    JS_PromiseMarkAsHandled(ctx, promise);
  JS_FreeValue(ctx, promise);
  if (state == JS_PROMISE_REJECTED)
    return JS_Throw(ctx, result);
  if (state == JS_PROMISE_PENDING)
    return JS_ThrowTypeError(ctx, "a module that awaits at its top level cannot be required; import it");
  return JS_GetModuleNamespace(ctx, module);
}
