// Every message of the verifiers, one wrong module each.
// RUN: tokenloom-opt %s --verify-diagnostics --parsing-diagnostics --split-input-file | filecheck %s

// An extension stays in its tier.
flow.workflow @main {
^bb0(%c: !kv.context<dense>, %p: !flow.segment):
  %0 = kv.extend %c with (%p : !flow.segment) : !kv.context<dense> -> !kv.context<pim>
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: kv.extend cannot change the tier: dense to pim; only kv.move does

// -----

// A decode needs a budget.
flow.workflow @main {
^bb0(%c: !kv.context<dense>, %a: !flow.agent<@A>):
  %t, %n = kv.decode %c for %a {max_tokens = 0 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:2">, close_tokens = array<i32: 1>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: the decode at a.loom:1:2 has no positive token budget

// -----

// A decode stays in its tier.
flow.workflow @main {
^bb0(%c: !kv.context<dense>, %a: !flow.agent<@A>):
  %t, %n = kv.decode %c for %a {max_tokens = 4 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:2">, close_tokens = array<i32: 1>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<pim>
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: kv.decode cannot change the tier: dense to pim

// -----

// A move goes somewhere.
flow.workflow @main {
^bb0(%c: !kv.context<dense>):
  %0, %e = kv.move %c : !kv.context<dense> -> !kv.context<dense>
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: kv.move must change the tier, both are dense

// -----

// A reservation names a tier.
flow.workflow @main {
  %e = kv.reserve 16 in <"attic">
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: kv.reserve: no tier 'attic'

// -----

// A reservation is for something.
flow.workflow @main {
  %e = kv.reserve 0 in <"dense">
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: kv.reserve sets aside a positive number of tokens

// -----

// A context has a known tier.
flow.workflow @main {
^bb0(%c: !kv.context<dense>):
  kv.drop %c : !kv.context<attic>
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: Expected `pim`, `dense`, `host`, or `disk`.
