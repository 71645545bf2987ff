// RUN: tokenloom-opt --split-input-file --verify-diagnostics -p 'import-model' %s | filecheck %s

// Two functions for a model, equal but for their phase, in the order of the model's layers.
flow.model @m <"tiny">

// CHECK:      nn.function @m_prefill prefill {
// CHECK-NEXT: ^bb0(%tokens: tensor<?xi32>, %cache: !nn.cache):
// CHECK-NEXT: %0 = nn.embed %tokens "embed" : tensor<?xi32> -> tensor<?x64xf32>
// CHECK-NEXT: %1 = nn.rms_norm %0 "layers.0.attn_norm" {epsilon = 1.000000e-05 : f64} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %2 = nn.linear %1 "layers.0.qkv" {format = "dense"} : tensor<?x64xf32> -> tensor<?x128xf32>
// CHECK-NEXT: %3 = nn.append %2 to %cache {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32>
// CHECK-NEXT: %4 = nn.attention %2 over %3 {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %5 = nn.linear %4 "layers.0.o" {format = "dense"} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %6 = nn.add %0, %5 : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %7 = nn.rms_norm %6 "layers.0.ffn_norm" {epsilon = 1.000000e-05 : f64} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %8 = nn.linear %7 "layers.0.gate_up" {format = "dense"} : tensor<?x64xf32> -> tensor<?x256xf32>
// CHECK-NEXT: %9 = nn.silu_mul %8 : tensor<?x256xf32> -> tensor<?x128xf32>
// CHECK-NEXT: %10 = nn.linear %9 "layers.0.down" {format = "dense"} : tensor<?x128xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %11 = nn.add %6, %10 : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %12 = nn.rms_norm %11 "layers.1.attn_norm" {epsilon = 1.000000e-05 : f64} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %13 = nn.linear %12 "layers.1.qkv" {format = "dense"} : tensor<?x64xf32> -> tensor<?x128xf32>
// CHECK-NEXT: %14 = nn.append %13 to %3 {layer = 1 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32>
// CHECK-NEXT: %15 = nn.attention %13 over %14 {layer = 1 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %16 = nn.linear %15 "layers.1.o" {format = "dense"} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %17 = nn.add %11, %16 : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %18 = nn.rms_norm %17 "layers.1.ffn_norm" {epsilon = 1.000000e-05 : f64} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %19 = nn.linear %18 "layers.1.gate_up" {format = "dense"} : tensor<?x64xf32> -> tensor<?x256xf32>
// CHECK-NEXT: %20 = nn.silu_mul %19 : tensor<?x256xf32> -> tensor<?x128xf32>
// CHECK-NEXT: %21 = nn.linear %20 "layers.1.down" {format = "dense"} : tensor<?x128xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %22 = nn.add %17, %21 : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %23 = nn.take_rows %22 : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %24 = nn.rms_norm %23 "norm" {epsilon = 1.000000e-05 : f64} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %logits = nn.linear %24 "lm_head" {format = "dense"} : tensor<?x64xf32> -> tensor<?x258xf32>
// CHECK-NEXT: nn.return %logits, %14 : tensor<?x258xf32>, !nn.cache
// CHECK-NEXT: } {config = #flow.string<"{\22bos_id\22: null, \22eos_ids\22: [257], \22ffn_size\22: 128, \22head_dim\22: 16, \22hidden_size\22: 64, \22max_context\22: 2048, \22name\22: \22tiny\22, \22norm_eps\22: 1e-05, \22num_heads\22: 4, \22num_kv_heads\22: 2, \22num_layers\22: 2, \22plain_ffn_size\22: 0, \22qk_norm\22: false, \22qkv_bias\22: false, \22rope\22: {\22attention_factor\22: 1.0, \22beta_fast\22: 32.0, \22beta_slow\22: 1.0, \22factor\22: 1.0, \22high_freq_factor\22: 4.0, \22kind\22: \22plain\22, \22low_freq_factor\22: 1.0, \22original_context\22: 0, \22theta\22: 10000.0}, \22tie_embeddings\22: false, \22vocab_size\22: 258}">}
// CHECK-NEXT: nn.function @m_decode decode {
// CHECK-NEXT: ^bb0(%tokens: tensor<?xi32>, %cache: !nn.cache):
// CHECK-NEXT: %0 = nn.embed %tokens "embed" : tensor<?xi32> -> tensor<?x64xf32>
// CHECK-NEXT: %1 = nn.rms_norm %0 "layers.0.attn_norm" {epsilon = 1.000000e-05 : f64} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %2 = nn.linear %1 "layers.0.qkv" {format = "dense"} : tensor<?x64xf32> -> tensor<?x128xf32>
// CHECK-NEXT: %3 = nn.append %2 to %cache {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32>
// CHECK-NEXT: %4 = nn.attention %2 over %3 {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %5 = nn.linear %4 "layers.0.o" {format = "dense"} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %6 = nn.add %0, %5 : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %7 = nn.rms_norm %6 "layers.0.ffn_norm" {epsilon = 1.000000e-05 : f64} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %8 = nn.linear %7 "layers.0.gate_up" {format = "dense"} : tensor<?x64xf32> -> tensor<?x256xf32>
// CHECK-NEXT: %9 = nn.silu_mul %8 : tensor<?x256xf32> -> tensor<?x128xf32>
// CHECK-NEXT: %10 = nn.linear %9 "layers.0.down" {format = "dense"} : tensor<?x128xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %11 = nn.add %6, %10 : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %12 = nn.rms_norm %11 "layers.1.attn_norm" {epsilon = 1.000000e-05 : f64} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %13 = nn.linear %12 "layers.1.qkv" {format = "dense"} : tensor<?x64xf32> -> tensor<?x128xf32>
// CHECK-NEXT: %14 = nn.append %13 to %3 {layer = 1 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32>
// CHECK-NEXT: %15 = nn.attention %13 over %14 {layer = 1 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %16 = nn.linear %15 "layers.1.o" {format = "dense"} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %17 = nn.add %11, %16 : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %18 = nn.rms_norm %17 "layers.1.ffn_norm" {epsilon = 1.000000e-05 : f64} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %19 = nn.linear %18 "layers.1.gate_up" {format = "dense"} : tensor<?x64xf32> -> tensor<?x256xf32>
// CHECK-NEXT: %20 = nn.silu_mul %19 : tensor<?x256xf32> -> tensor<?x128xf32>
// CHECK-NEXT: %21 = nn.linear %20 "layers.1.down" {format = "dense"} : tensor<?x128xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %22 = nn.add %17, %21 : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %23 = nn.take_rows %22 : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %24 = nn.rms_norm %23 "norm" {epsilon = 1.000000e-05 : f64} : tensor<?x64xf32> -> tensor<?x64xf32>
// CHECK-NEXT: %logits = nn.linear %24 "lm_head" {format = "dense"} : tensor<?x64xf32> -> tensor<?x258xf32>
// CHECK-NEXT: nn.return %logits, %14 : tensor<?x258xf32>, !nn.cache
// CHECK-NEXT: } {config = #flow.string<"{\22bos_id\22: null, \22eos_ids\22: [257], \22ffn_size\22: 128, \22head_dim\22: 16, \22hidden_size\22: 64, \22max_context\22: 2048, \22name\22: \22tiny\22, \22norm_eps\22: 1e-05, \22num_heads\22: 4, \22num_kv_heads\22: 2, \22num_layers\22: 2, \22plain_ffn_size\22: 0, \22qk_norm\22: false, \22qkv_bias\22: false, \22rope\22: {\22attention_factor\22: 1.0, \22beta_fast\22: 32.0, \22beta_slow\22: 1.0, \22factor\22: 1.0, \22high_freq_factor\22: 4.0, \22kind\22: \22plain\22, \22low_freq_factor\22: 1.0, \22original_context\22: 0, \22theta\22: 10000.0}, \22tie_embeddings\22: false, \22vocab_size\22: 258}">}

// -----

// A module without models gets none.
flow.workflow @main {
  %0 = flow.text <"x">
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      flow.workflow @main {
// CHECK-NEXT: %0 = flow.text <"x">
// CHECK-NEXT: flow.return
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}
