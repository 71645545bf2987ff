// Every message of the verifiers, one wrong module each.
// RUN: tokenloom-opt %s --verify-diagnostics --parsing-diagnostics --split-input-file | filecheck %s

// A function returns.
nn.function @f decode {
^bb0(%c: !nn.cache):
  flow.yield %c : !nn.cache
} {config = #flow.string<"{}">}
// CHECK: function @f ends with nn.return

// -----

// A return ends functions alone.
builtin.module {
  "nn.return"() : () -> ()
}
// CHECK: 'nn.return' expects parent op 'nn.function'

// -----

// Heads share KV heads evenly.
nn.function @f decode {
^bb0(%x: tensor<?x128xf32>, %c: !nn.cache):
  %0 = nn.attention %x over %c {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 3 : i64, head_dim = 16 : i64} : tensor<?x128xf32> -> tensor<?x64xf32>
  nn.return %x, %c : tensor<?x128xf32>, !nn.cache
} {config = #flow.string<"{}">}
// CHECK: 4 heads cannot share 3 KV heads evenly

// -----

// A placement is a device that we know.
nn.function @f decode {
^bb0(%x: tensor<?x128xf32>, %c: !nn.cache):
  %0 = nn.attention %x over %c {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64, placement = #nn<placement tpu>} : tensor<?x128xf32> -> tensor<?x64xf32>
  nn.return %x, %c : tensor<?x128xf32>, !nn.cache
} {config = #flow.string<"{}">}
// CHECK: Expected `host`, `pim`, or `cuda`.
