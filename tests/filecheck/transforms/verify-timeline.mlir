// RUN: tokenloom-opt --split-input-file --verify-diagnostics -p 'verify-timeline' %s | filecheck %s

// A context is not read after it is released.
exec.workflow @main {
^bb0(%a: !flow.agent<@A>, %p: !flow.segment):
  %root = exec.root @m : !kv.context<dense>
  %c = exec.extend %root with (%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
  exec.release %c : !kv.context<dense>
  %t = exec.submit %c for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
  %x, %n, %e = exec.await %t -> !flow.text, !kv.context<dense>
  exec.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK: %c is read after it is released

// -----

// Nor by a request that was made of it.
exec.workflow @main {
^bb0(%a: !flow.agent<@A>, %p: !flow.segment):
  %root = exec.root @m : !kv.context<dense>
  %c = exec.extend %root with (%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
  %d = exec.extend %c with (%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
  exec.release %c : !kv.context<dense>
  %t = exec.submit %d for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
  %x, %n, %e = exec.await %t -> !flow.text, !kv.context<dense>
  exec.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK: %c is read after it is released

// -----

// A release waits for all requests that read the context.
exec.workflow @main {
^bb0(%a: !flow.agent<@A>, %p: !flow.segment):
  %root = exec.root @m : !kv.context<dense>
  %c = exec.extend %root with (%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
  %t = exec.submit %c for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
  %x, %n, %e = exec.await %t -> !flow.text, !kv.context<dense>
  exec.release %c : !kv.context<dense>
  exec.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK: %c is released without waiting for 1 of the requests that read it

// -----

// A context is released once.
exec.workflow @main {
^bb0(%a: !flow.agent<@A>, %p: !flow.segment):
  %root = exec.root @m : !kv.context<dense>
  %c = exec.extend %root with (%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
  %t = exec.submit %c for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
  %x, %n, %e = exec.await %t -> !flow.text, !kv.context<dense>
  exec.release %c after (%e) : !kv.context<dense>
  exec.release %c after (%e) : !kv.context<dense>
  exec.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK: %c is released 2 times

// -----

// Every request is waited for.
exec.workflow @main {
^bb0(%a: !flow.agent<@A>, %p: !flow.segment):
  %root = exec.root @m : !kv.context<dense>
  %c = exec.extend %root with (%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
  %t = exec.submit %c for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
  exec.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK: the request at a.loom:1:1 is waited for 0 times in its block

// -----

// And once.
exec.workflow @main {
^bb0(%a: !flow.agent<@A>, %p: !flow.segment):
  %root = exec.root @m : !kv.context<dense>
  %c = exec.extend %root with (%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
  %t = exec.submit %c for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
  %x, %n, %e = exec.await %t -> !flow.text, !kv.context<dense>
  %x2, %n2, %e2 = exec.await %t -> !flow.text, !kv.context<dense>
  exec.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK: the request at a.loom:1:1 is waited for 2 times in its block

// -----

// A launch has all its arguments.
exec.model @m {
  exec.buffer "x" ["rows", 64 : i64] "float32" "temp" on "host"
  exec.launch <"add", {hidden = 64 : i64}, {}, "float32", "host", "fast"> all ["x", "n"]
} {config = #flow.string<"{}">, digest = "", page_tokens = 16 : i64, max_rows = 4 : i64}

// CHECK: add takes 3 arguments (x y n), got 2

// -----

// A launch names what is declared.
exec.model @m {
  exec.buffer "x" ["rows", 64 : i64] "float32" "temp" on "host"
  exec.launch <"add", {hidden = 64 : i64}, {}, "float32", "host", "fast"> all ["x", "y", "n"]
} {config = #flow.string<"{}">, digest = "", page_tokens = 16 : i64, max_rows = 4 : i64}

// CHECK: add names 'y', which is not declared

// -----

// A row count is no buffer.
exec.model @m {
  exec.buffer "x" ["rows", 64 : i64] "float32" "temp" on "host"
  exec.launch <"add", {hidden = 64 : i64}, {}, "float32", "host", "fast"> all ["x", "n", "n"]
} {config = #flow.string<"{}">, digest = "", page_tokens = 16 : i64, max_rows = 4 : i64}

// CHECK: add: argument y cannot be 'n'

// -----

// A kernel is one that devices have.
exec.model @m {
  exec.buffer "x" ["rows", 64 : i64] "float32" "temp" on "host"
  exec.launch <"conv", {}, {}, "float32", "host", "fast"> all ["x", "n"]
} {config = #flow.string<"{}">, digest = "", page_tokens = 16 : i64, max_rows = 4 : i64}

// CHECK: no kernel 'conv'; there are embed, rms_norm, linear, linear_bias, head_norm, kv_append, attention_prefill, attention_decode, silu_mul, add, take_rows

// -----

// A copy names what is declared.
exec.model @m {
  exec.buffer "x" ["rows", 64 : i64] "float32" "temp" on "host"
  exec.copy "x" to "y" all
} {config = #flow.string<"{}">, digest = "", page_tokens = 16 : i64, max_rows = 4 : i64}

// CHECK: a copy names 'y', which is not declared

// -----

// A program without faults passes as it is.
exec.workflow @main {
^bb0(%a: !flow.agent<@A>, %p: !flow.segment):
  %root = exec.root @m : !kv.context<dense>
  %c = exec.extend %root with (%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
  %t = exec.submit %c for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
  %x, %n, %e = exec.await %t -> !flow.text, !kv.context<dense>
  exec.release %c after (%e) : !kv.context<dense>
  exec.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK: exec.release %c after(%e)
