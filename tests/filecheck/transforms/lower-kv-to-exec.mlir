// RUN: tokenloom-opt --split-input-file --verify-diagnostics -p 'lower-kv-to-exec' %s | filecheck %s

// A decode is a request and the wait for it; every other op has its twin.
flow.workflow @main {
^bb0(%a: !flow.agent<@A>, %p: !flow.segment):
  %root = kv.root @m : !kv.context<dense>
  %c = kv.extend %root with (%p : !flow.segment) {source = #kv<source prefix>, decision = #flow.string<"reuse.0">} : !kv.context<dense> -> !kv.context<dense>
  %w = kv.window %c 2 : !kv.context<dense> -> !kv.context<dense>
  %d = kv.extend %w with (%p : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
  %t, %n = kv.decode %d for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 3 : i64, slack_ns = 5 : i64} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
  %m, %e = kv.move %n : !kv.context<dense> -> !kv.context<pim>
  kv.drop %m after (%e) : !kv.context<pim>
  flow.return %t : !flow.text
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      exec.workflow @main {
// CHECK-NEXT: ^bb0(%a: !flow.agent<@A>, %p: !flow.segment):
// CHECK-NEXT: %root = exec.root @m : !kv.context<dense>
// CHECK-NEXT: %c = exec.extend %root with(%p : !flow.segment) prefix {decision = #flow.string<"reuse.0">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %w = exec.window %c 2 : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %d = exec.extend %w with(%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %ticket = exec.submit %d for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 3 : i64} : !kv.context<dense>, !flow.agent<@A>
// CHECK-NEXT: %t, %n, %done = exec.await %ticket -> !flow.text, !kv.context<dense>
// CHECK-NEXT: %m, %e = exec.move %n : !kv.context<dense> -> !kv.context<pim>
// CHECK-NEXT: exec.release %m after(%e) : !kv.context<pim>
// CHECK-NEXT: exec.return %t : !flow.text
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// Values, tools and regions stay as they are.
flow.workflow @main {
^bb0(%x: !flow.list<i64>):
  %0 = flow.call @t {place = #flow.string<"a.loom:1:1">} -> !flow.text
  %l = flow.map %x : !flow.list<i64> -> (!flow.list<i64>) {
  ^bb1(%i: i64, %k: i64):
    flow.yield %i : i64
  }
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      exec.workflow @main {
// CHECK-NEXT: ^bb0(%x: !flow.list<i64>):
// CHECK-NEXT: %0 = flow.call @t {place = #flow.string<"a.loom:1:1">} -> !flow.text
// CHECK-NEXT: %l = flow.map %x : !flow.list<i64> -> (!flow.list<i64>) {
// CHECK-NEXT: ^bb0(%i: i64, %k: i64):
// CHECK-NEXT: flow.yield %i : i64
// CHECK-NEXT: }
// CHECK-NEXT: exec.return
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// What nothing can run yet is refused by name.
flow.workflow @main {
^bb0(%c: !kv.context<dense>):
  kv.hint keep %c : !kv.context<dense>
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK: kv.hint has no form in exec
