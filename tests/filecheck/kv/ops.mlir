// Each op in its custom form, then through the generic form and back: nothing is lost.
// RUN: tokenloom-opt %s | tokenloom-opt - | filecheck %s
// RUN: tokenloom-opt %s --print-op-generic | tokenloom-opt - | filecheck %s

flow.workflow @main {
^bb0(%a: !flow.agent<@Judge>, %p: !flow.segment):
  %root = kv.root @smol : !kv.context<dense>
  %c = kv.extend %root with (%p : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
  %d = kv.extend %root with (%p, %p : !flow.segment, !flow.segment) {source = #kv<source prefix>, decision = #flow.string<"reuse.0">} : !kv.context<dense> -> !kv.context<dense>
  %w = kv.window %c 2 : !kv.context<dense> -> !kv.context<dense>
  %run = kv.slice %c behind %root : !kv.context<dense>, !kv.context<dense>
  %l = kv.link %d, %run {decision = #flow.string<"reuse.1">} : !kv.context<dense> -> !kv.context<dense>
  %answer, %next = kv.decode %l for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:2">, close_tokens = array<i32: 257>, priority = 1 : i64, slack_ns = 0 : i64} : !kv.context<dense>, !flow.agent<@Judge> -> !flow.text, !kv.context<dense>
  %moved, %done = kv.move %next : !kv.context<dense> -> !kv.context<host>
  %back, %done2 = kv.move %moved after (%done) : !kv.context<host> -> !kv.context<pim>
  kv.hint prefetch %moved after (%done2) {deadline_ns = 5 : i64} : !kv.context<host>
  kv.hint offload %back : !kv.context<pim>
  %reserved = kv.reserve 64 in <"dense"> after (%done)
  kv.drop %back after (%done2, %reserved) : !kv.context<pim>
  kv.drop %c : !kv.context<dense>
  flow.return %answer : !flow.text
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:        builtin.module {
// CHECK-NEXT:   flow.workflow @main {
// CHECK-NEXT:   ^bb0(%a: !flow.agent<@Judge>, %p: !flow.segment):
// CHECK-NEXT:   %root = kv.root @smol : !kv.context<dense>
// CHECK-NEXT:   %c = kv.extend %root with(%p : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT:   %d = kv.extend %root with(%p, %p : !flow.segment, !flow.segment) {source = #kv<source prefix>, decision = #flow.string<"reuse.0">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT:   %w = kv.window %c 2 : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT:   %run = kv.slice %c behind %root : !kv.context<dense>, !kv.context<dense>
// CHECK-NEXT:   %l = kv.link %d, %run {decision = #flow.string<"reuse.1">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT:   %answer, %next = kv.decode %l for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:2">, close_tokens = array<i32: 257>, priority = 1 : i64, slack_ns = 0 : i64} : !kv.context<dense>, !flow.agent<@Judge> -> !flow.text, !kv.context<dense>
// CHECK-NEXT:   %moved, %done = kv.move %next : !kv.context<dense> -> !kv.context<host>
// CHECK-NEXT:   %back, %done2 = kv.move %moved after(%done) : !kv.context<host> -> !kv.context<pim>
// CHECK-NEXT:   kv.hint prefetch %moved after(%done2) {deadline_ns = 5 : i64} : !kv.context<host>
// CHECK-NEXT:   kv.hint offload %back : !kv.context<pim>
// CHECK-NEXT:   %reserved = kv.reserve 64 in <"dense"> after(%done)
// CHECK-NEXT:   kv.drop %back after(%done2, %reserved) : !kv.context<pim>
// CHECK-NEXT:   kv.drop %c : !kv.context<dense>
// CHECK-NEXT:   flow.return %answer : !flow.text
// CHECK-NEXT:   } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}
// CHECK-NEXT:   }
