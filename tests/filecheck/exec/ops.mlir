// Each op in its custom form, then through the generic form and back: nothing is lost.
// RUN: tokenloom-opt %s | tokenloom-opt - | filecheck %s
// RUN: tokenloom-opt %s --print-op-generic | tokenloom-opt - | filecheck %s

exec.model @smol {
  exec.buffer "tokens" ["rows"] "int32" "input" on "host"
  exec.buffer "x" ["rows", 64 : i64] "float32" "temp" on "host"
  exec.buffer "y@pim" ["rows", 64 : i64] "float32" "temp" on "pim"
  exec.weight "embed" on "host" for <"embed", {hidden = 64 : i64, vocab = 258 : i64}, {}, "float32", "host", "exact">
  exec.weight "layers.0.q_norm" on "host"
  exec.launch <"embed", {hidden = 64 : i64, vocab = 258 : i64}, {}, "float32", "host", "exact"> all ["tokens", "embed", "x", "n"]
  exec.launch <"rms_norm", {hidden = 64 : i64}, {eps = 1.000000e-05 : f64}, "float32", "host", "fast"> logits ["x", "norm", "x", 3 : i64] {decision = #flow.string<"placement.smol_decode">}
  exec.copy "x" to "y@pim" decode
} {source = #flow.string<"tiny">, config = #flow.string<"{}">, digest = "00ff", page_tokens = 16 : i64, max_rows = 512 : i64}
exec.workflow @main {
^bb0(%a: !flow.agent<@Judge>, %p: !flow.segment, %run: !kv.run):
  %root = exec.root @smol : !kv.context<dense>
  %c = exec.extend %root with (%p : !flow.segment) prefix {decision = #flow.string<"reuse.0">} : !kv.context<dense> -> !kv.context<dense>
  %w = exec.window %c 2 : !kv.context<dense> -> !kv.context<dense>
  %r = exec.slice %c behind %root : !kv.context<dense>, !kv.context<dense>
  %l = exec.link %w, %run : !kv.context<dense> -> !kv.context<dense>
  %t = exec.submit %l for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:2">, close_tokens = array<i32: 257>, priority = 1 : i64} : !kv.context<dense>, !flow.agent<@Judge>
  %answer, %next, %done = exec.await %t -> !flow.text, !kv.context<dense>
  %moved, %done2 = exec.move %next after (%done) : !kv.context<dense> -> !kv.context<pim>
  exec.release %moved after (%done2) : !kv.context<pim>
  exec.release %c : !kv.context<dense>
  exec.return %answer : !flow.text
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:        builtin.module {
// CHECK-NEXT:   exec.model @smol {
// CHECK-NEXT:   exec.buffer "tokens" ["rows"] "int32" "input" on "host"
// CHECK-NEXT:   exec.buffer "x" ["rows", 64 : i64] "float32" "temp" on "host"
// CHECK-NEXT:   exec.buffer "y@pim" ["rows", 64 : i64] "float32" "temp" on "pim"
// CHECK-NEXT:   exec.weight "embed" on "host" for <"embed", {hidden = 64 : i64, vocab = 258 : i64}, {}, "float32", "host", "exact">
// CHECK-NEXT:   exec.weight "layers.0.q_norm" on "host"
// CHECK-NEXT:   exec.launch <"embed", {hidden = 64 : i64, vocab = 258 : i64}, {}, "float32", "host", "exact"> all ["tokens", "embed", "x", "n"]
// CHECK-NEXT:   exec.launch <"rms_norm", {hidden = 64 : i64}, {eps = 1.000000e-05 : f64}, "float32", "host", "fast"> logits ["x", "norm", "x", 3 : i64] {decision = #flow.string<"placement.smol_decode">}
// CHECK-NEXT:   exec.copy "x" to "y@pim" decode
// CHECK-NEXT:   } {source = #flow.string<"tiny">, config = #flow.string<"{}">, digest = "00ff", page_tokens = 16 : i64, max_rows = 512 : i64}
// CHECK-NEXT:   exec.workflow @main {
// CHECK-NEXT:   ^bb0(%a: !flow.agent<@Judge>, %p: !flow.segment, %run: !kv.run):
// CHECK-NEXT:   %root = exec.root @smol : !kv.context<dense>
// CHECK-NEXT:   %c = exec.extend %root with(%p : !flow.segment) prefix {decision = #flow.string<"reuse.0">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT:   %w = exec.window %c 2 : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT:   %r = exec.slice %c behind %root : !kv.context<dense>, !kv.context<dense>
// CHECK-NEXT:   %l = exec.link %w, %run : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT:   %t = exec.submit %l for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:2">, close_tokens = array<i32: 257>, priority = 1 : i64} : !kv.context<dense>, !flow.agent<@Judge>
// CHECK-NEXT:   %answer, %next, %done = exec.await %t -> !flow.text, !kv.context<dense>
// CHECK-NEXT:   %moved, %done2 = exec.move %next after(%done) : !kv.context<dense> -> !kv.context<pim>
// CHECK-NEXT:   exec.release %moved after(%done2) : !kv.context<pim>
// CHECK-NEXT:   exec.release %c : !kv.context<dense>
// CHECK-NEXT:   exec.return %answer : !flow.text
// CHECK-NEXT:   } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}
// CHECK-NEXT:   }
