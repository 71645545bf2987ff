// Every message of the verifiers, one wrong module each.
// RUN: tokenloom-opt %s --verify-diagnostics --parsing-diagnostics --split-input-file | filecheck %s

// A buffer has a role.
exec.model @m {
  exec.buffer "x" ["rows"] "float32" "scratch" on "host"
} {config = #flow.string<"{}">, digest = "", page_tokens = 16 : i64, max_rows = 4 : i64}
// CHECK: buffer x: no role 'scratch'

// -----

// A kernel has a numeric mode.
exec.model @m {
  exec.weight "w" on "host" for <"linear", {inputs = 1 : i64}, {}, "float32", "host", "sloppy">
} {config = #flow.string<"{}">, digest = "", page_tokens = 16 : i64, max_rows = 4 : i64}
// CHECK: kernel linear: no mode 'sloppy'

// -----

// The sizes of a kernel are integers.
exec.model @m {
  exec.weight "w" on "host" for <"linear", {inputs = "many"}, {}, "float32", "host", "fast">
} {config = #flow.string<"{}">, digest = "", page_tokens = 16 : i64, max_rows = 4 : i64}
// CHECK: kernel linear: dimension inputs is no integer

// -----

// A copy has two ends.
exec.model @m {
  exec.copy "x" to "x" all
} {config = #flow.string<"{}">, digest = "", page_tokens = 16 : i64, max_rows = 4 : i64}
// CHECK: exec.copy of x to itself

// -----

// A launch belongs to a model: workflows never launch.
exec.workflow @main {
  exec.launch <"add", {hidden = 1 : i64}, {}, "float32", "host", "fast"> all ["x", "y", "n"]
  exec.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: 'exec.launch' expects parent op 'exec.model'

// -----

// A workflow returns.
exec.workflow @main {
  flow.yield
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: workflow @main ends with exec.return

// -----

// A return ends workflows alone.
builtin.module {
  "exec.return"() : () -> ()
}
// CHECK: 'exec.return' expects parent op 'exec.workflow'

// -----

// A move goes somewhere.
exec.workflow @main {
^bb0(%c: !kv.context<dense>):
  %0, %e = exec.move %c : !kv.context<dense> -> !kv.context<dense>
  exec.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: exec.move must change the tier, both are dense
