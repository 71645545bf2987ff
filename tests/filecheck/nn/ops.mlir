// Each op in its custom form, then through the generic form and back: nothing is lost.
// RUN: tokenloom-opt %s | tokenloom-opt - | filecheck %s
// RUN: tokenloom-opt %s --print-op-generic | tokenloom-opt - | filecheck %s

nn.function @smol_decode decode {
^bb0(%tokens: tensor<?xi32>, %cache: !nn.cache):
  %x = nn.embed %tokens "embed" : tensor<?xi32> -> tensor<?x64xf32>
  %n = nn.rms_norm %x "layers.0.attn_norm" {epsilon = 1.000000e-05 : f64} : tensor<?x64xf32> -> tensor<?x64xf32>
  %qkv = nn.linear %n "layers.0.qkv" {bias = "layers.0.qkv_bias", format = "dense"} : tensor<?x64xf32> -> tensor<?x128xf32>
  %qn = nn.head_norm %qkv "layers.0.q_norm", "layers.0.k_norm" {epsilon = 1.000000e-05 : f64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32> -> tensor<?x128xf32>
  %c = nn.append %qn to %cache {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32>
  %att = nn.attention %qn over %c {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64, placement = #nn<placement pim>, decision = #flow.string<"placement.smol_decode">} : tensor<?x128xf32> -> tensor<?x64xf32>
  %y = nn.add %x, %att : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
  %gu = nn.linear %y "layers.0.gate_up" : tensor<?x64xf32> -> tensor<?x256xf32>
  %act = nn.silu_mul %gu : tensor<?x256xf32> -> tensor<?x128xf32>
  %rows = nn.take_rows %y {all = true} : tensor<?x64xf32> -> tensor<?x64xf32>
  nn.return %rows, %c : tensor<?x64xf32>, !nn.cache
} {config = #flow.string<"{}">}

// CHECK:        builtin.module {
// CHECK-NEXT:   nn.function @smol_decode decode {
// CHECK-NEXT:   ^bb0(%tokens: tensor<?xi32>, %cache: !nn.cache):
// CHECK-NEXT:   %x = nn.embed %tokens "embed" : tensor<?xi32> -> tensor<?x64xf32>
// CHECK-NEXT:   %n = nn.rms_norm %x "layers.0.attn_norm" {epsilon = 1.000000e-05 : f64} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT:   %qkv = nn.linear %n "layers.0.qkv" {bias = "layers.0.qkv_bias", format = "dense"} : tensor<?x64xf32> -> tensor<?x128xf32>
// CHECK-NEXT:   %qn = nn.head_norm %qkv "layers.0.q_norm", "layers.0.k_norm" {epsilon = 1.000000e-05 : f64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32> -> tensor<?x128xf32>
// CHECK-NEXT:   %c = nn.append %qn to %cache {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32>
// CHECK-NEXT:   %att = nn.attention %qn over %c {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64, placement = #nn<placement pim>, decision = #flow.string<"placement.smol_decode">} : tensor<?x128xf32> -> tensor<?x64xf32>
// CHECK-NEXT:   %y = nn.add %x, %att : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT:   %gu = nn.linear %y "layers.0.gate_up" : tensor<?x64xf32> -> tensor<?x256xf32>
// CHECK-NEXT:   %act = nn.silu_mul %gu : tensor<?x256xf32> -> tensor<?x128xf32>
// CHECK-NEXT:   %rows = nn.take_rows %y {all = true} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT:   nn.return %rows, %c : tensor<?x64xf32>, !nn.cache
// CHECK-NEXT:   } {config = #flow.string<"{}">}
// CHECK-NEXT:   }
