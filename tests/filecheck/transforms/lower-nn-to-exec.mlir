// RUN: tokenloom-opt --split-input-file --verify-diagnostics -p 'lower-nn-to-exec{mode=exact max-rows=64}' %s | filecheck %s

// One step program for both phases: attention twice, all else once; the sum of the residual stays in its buffer.
flow.model @m <"tiny">
nn.function @m_prefill prefill {
^bb0(%tokens: tensor<?xi32>, %cache: !nn.cache):
  %x = nn.embed %tokens "embed" : tensor<?xi32> -> tensor<?x64xf32>
  %qkv = nn.linear %x "layers.0.qkv" : tensor<?x64xf32> -> tensor<?x128xf32>
  %c = nn.append %qkv to %cache {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32>
  %att = nn.attention %qkv over %c {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32> -> tensor<?x64xf32>
  %y = nn.add %x, %att : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
  %rows = nn.take_rows %y : tensor<?x64xf32> -> tensor<?x64xf32>
  %logits = nn.linear %rows "lm_head" : tensor<?x64xf32> -> tensor<?x258xf32>
  nn.return %logits, %c : tensor<?x258xf32>, !nn.cache
} {config = #flow.string<"{\"name\": \"tiny\", \"vocab_size\": 258, \"hidden_size\": 64, \"num_layers\": 1, \"num_heads\": 4, \"num_kv_heads\": 2, \"head_dim\": 16, \"ffn_size\": 128, \"norm_eps\": 1e-05, \"rope\": {\"kind\": \"plain\", \"theta\": 10000.0, \"factor\": 1.0, \"original_context\": 0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"attention_factor\": 1.0, \"beta_fast\": 32.0, \"beta_slow\": 1.0}, \"max_context\": 2048, \"tie_embeddings\": false, \"qkv_bias\": false, \"qk_norm\": false, \"bos_id\": null, \"eos_ids\": [257]}">}
nn.function @m_decode decode {
^bb0(%tokens: tensor<?xi32>, %cache: !nn.cache):
  %x = nn.embed %tokens "embed" : tensor<?xi32> -> tensor<?x64xf32>
  %qkv = nn.linear %x "layers.0.qkv" : tensor<?x64xf32> -> tensor<?x128xf32>
  %c = nn.append %qkv to %cache {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32>
  %att = nn.attention %qkv over %c {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32> -> tensor<?x64xf32>
  %y = nn.add %x, %att : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
  %rows = nn.take_rows %y : tensor<?x64xf32> -> tensor<?x64xf32>
  %logits = nn.linear %rows "lm_head" : tensor<?x64xf32> -> tensor<?x258xf32>
  nn.return %logits, %c : tensor<?x258xf32>, !nn.cache
} {config = #flow.string<"{\"name\": \"tiny\", \"vocab_size\": 258, \"hidden_size\": 64, \"num_layers\": 1, \"num_heads\": 4, \"num_kv_heads\": 2, \"head_dim\": 16, \"ffn_size\": 128, \"norm_eps\": 1e-05, \"rope\": {\"kind\": \"plain\", \"theta\": 10000.0, \"factor\": 1.0, \"original_context\": 0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"attention_factor\": 1.0, \"beta_fast\": 32.0, \"beta_slow\": 1.0}, \"max_context\": 2048, \"tie_embeddings\": false, \"qkv_bias\": false, \"qk_norm\": false, \"bos_id\": null, \"eos_ids\": [257]}">}

// CHECK:      exec.model @m {
// CHECK-NEXT: exec.buffer "tokens" ["rows"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "frame_positions" ["rows"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "slots" ["rows"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "cos" [2048 : i64, 8 : i64] "float32" "state" on "host"
// CHECK-NEXT: exec.buffer "sin" [2048 : i64, 8 : i64] "float32" "state" on "host"
// CHECK-NEXT: exec.buffer "keys.0" ["pages", 2 : i64, 16 : i64, 16 : i64] "float32" "state" on "host"
// CHECK-NEXT: exec.buffer "values.0" ["pages", 2 : i64, 16 : i64, 16 : i64] "float32" "state" on "host"
// CHECK-NEXT: exec.buffer "positions" ["rows"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "row_requests" ["rows"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "table_offsets" ["requests1"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "pages" ["table"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "frame_starts" ["table"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "page_positions" ["table"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "page_lengths" ["table"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "logit_rows" ["logit_rows"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "logits" ["logit_rows", 258 : i64] "float32" "output" on "host"
// CHECK-NEXT: exec.buffer "temp.0" ["rows", 64 : i64] "float32" "temp" on "host"
// CHECK-NEXT: exec.buffer "temp.1" ["rows", 128 : i64] "float32" "temp" on "host"
// CHECK-NEXT: exec.buffer "temp.2" ["rows", 64 : i64] "float32" "temp" on "host"
// CHECK-NEXT: exec.buffer "temp.3" ["logit_rows", 64 : i64] "float32" "temp" on "host"
// CHECK-NEXT: exec.weight "embed" on "host" for <"embed", {hidden = 64 : i64, vocab = 258 : i64}, {}, "float32", "host", "exact">
// CHECK-NEXT: exec.weight "layers.0.qkv" on "host" for <"linear", {inputs = 64 : i64, outputs = 128 : i64}, {}, "float32", "host", "exact">
// CHECK-NEXT: exec.weight "lm_head" on "host" for <"linear", {inputs = 64 : i64, outputs = 258 : i64}, {}, "float32", "host", "exact">
// CHECK-NEXT: exec.launch <"embed", {hidden = 64 : i64, vocab = 258 : i64}, {}, "float32", "host", "exact"> all ["tokens", "embed", "temp.0", "n"]
// CHECK-NEXT: exec.launch <"linear", {inputs = 64 : i64, outputs = 128 : i64}, {}, "float32", "host", "exact"> all ["temp.0", "layers.0.qkv", "temp.1", "n"]
// CHECK-NEXT: exec.launch <"kv_append", {head_dim = 16 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, page_tokens = 16 : i64}, {}, "float32", "host", "exact"> all ["temp.1", "frame_positions", "slots", "cos", "sin", "keys.0", "values.0", "n"]
// CHECK-NEXT: exec.launch <"attention_decode", {head_dim = 16 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, page_tokens = 16 : i64}, {}, "float32", "host", "exact"> decode ["temp.1", "positions", "row_requests", "table_offsets", "pages", "frame_starts", "page_positions", "page_lengths", "cos", "sin", "keys.0", "values.0", "temp.2", "first", "n"]
// CHECK-NEXT: exec.launch <"attention_prefill", {head_dim = 16 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, page_tokens = 16 : i64}, {}, "float32", "host", "exact"> prefill ["temp.1", "positions", "row_requests", "table_offsets", "pages", "frame_starts", "page_positions", "page_lengths", "cos", "sin", "keys.0", "values.0", "temp.2", "first", "n"]
// CHECK-NEXT: exec.launch <"add", {hidden = 64 : i64}, {}, "float32", "host", "exact"> all ["temp.0", "temp.2", "n"]
// CHECK-NEXT: exec.launch <"take_rows", {hidden = 64 : i64}, {}, "float32", "host", "exact"> logits ["temp.0", "logit_rows", "temp.3", "n"]
// CHECK-NEXT: exec.launch <"linear", {inputs = 64 : i64, outputs = 258 : i64}, {}, "float32", "host", "exact"> logits ["temp.3", "lm_head", "logits", "n"]
// CHECK-NEXT: } {source = #flow.string<"tiny">, config = #flow.string<"{\22name\22: \22tiny\22, \22vocab_size\22: 258, \22hidden_size\22: 64, \22num_layers\22: 1, \22num_heads\22: 4, \22num_kv_heads\22: 2, \22head_dim\22: 16, \22ffn_size\22: 128, \22norm_eps\22: 1e-05, \22rope\22: {\22kind\22: \22plain\22, \22theta\22: 10000.0, \22factor\22: 1.0, \22original_context\22: 0, \22low_freq_factor\22: 1.0, \22high_freq_factor\22: 4.0, \22attention_factor\22: 1.0, \22beta_fast\22: 32.0, \22beta_slow\22: 1.0}, \22max_context\22: 2048, \22tie_embeddings\22: false, \22qkv_bias\22: false, \22qk_norm\22: false, \22bos_id\22: null, \22eos_ids\22: [257]}">, digest = "e81c6c9a99af939e15ed08036b05da38b7d7a9af784bc2c036ee6bd426b250dd", page_tokens = 16 : i64, max_rows = 64 : i64}

// -----

// Decode attention in PIM memory: pools there as float16, prefill attention through a staging pool.
flow.model @m <"tiny">
nn.function @m_prefill prefill {
^bb0(%tokens: tensor<?xi32>, %cache: !nn.cache):
  %x = nn.embed %tokens "embed" : tensor<?xi32> -> tensor<?x64xf32>
  %qkv = nn.linear %x "layers.0.qkv" : tensor<?x64xf32> -> tensor<?x128xf32>
  %c = nn.append %qkv to %cache {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32>
  %att = nn.attention %qkv over %c {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32> -> tensor<?x64xf32>
  %y = nn.add %x, %att : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
  %rows = nn.take_rows %y : tensor<?x64xf32> -> tensor<?x64xf32>
  %logits = nn.linear %rows "lm_head" : tensor<?x64xf32> -> tensor<?x258xf32>
  nn.return %logits, %c : tensor<?x258xf32>, !nn.cache
} {config = #flow.string<"{\"name\": \"tiny\", \"vocab_size\": 258, \"hidden_size\": 64, \"num_layers\": 1, \"num_heads\": 4, \"num_kv_heads\": 2, \"head_dim\": 16, \"ffn_size\": 128, \"norm_eps\": 1e-05, \"rope\": {\"kind\": \"plain\", \"theta\": 10000.0, \"factor\": 1.0, \"original_context\": 0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"attention_factor\": 1.0, \"beta_fast\": 32.0, \"beta_slow\": 1.0}, \"max_context\": 2048, \"tie_embeddings\": false, \"qkv_bias\": false, \"qk_norm\": false, \"bos_id\": null, \"eos_ids\": [257]}">}
nn.function @m_decode decode {
^bb0(%tokens: tensor<?xi32>, %cache: !nn.cache):
  %x = nn.embed %tokens "embed" : tensor<?xi32> -> tensor<?x64xf32>
  %qkv = nn.linear %x "layers.0.qkv" : tensor<?x64xf32> -> tensor<?x128xf32>
  %c = nn.append %qkv to %cache {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32>
  %att = nn.attention %qkv over %c {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64, placement = #nn<placement pim>} : tensor<?x128xf32> -> tensor<?x64xf32>
  %y = nn.add %x, %att : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
  %rows = nn.take_rows %y : tensor<?x64xf32> -> tensor<?x64xf32>
  %logits = nn.linear %rows "lm_head" : tensor<?x64xf32> -> tensor<?x258xf32>
  nn.return %logits, %c : tensor<?x258xf32>, !nn.cache
} {config = #flow.string<"{\"name\": \"tiny\", \"vocab_size\": 258, \"hidden_size\": 64, \"num_layers\": 1, \"num_heads\": 4, \"num_kv_heads\": 2, \"head_dim\": 16, \"ffn_size\": 128, \"norm_eps\": 1e-05, \"rope\": {\"kind\": \"plain\", \"theta\": 10000.0, \"factor\": 1.0, \"original_context\": 0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"attention_factor\": 1.0, \"beta_fast\": 32.0, \"beta_slow\": 1.0}, \"max_context\": 2048, \"tie_embeddings\": false, \"qkv_bias\": false, \"qk_norm\": false, \"bos_id\": null, \"eos_ids\": [257]}">}

// CHECK:      exec.model @m {
// CHECK-NEXT: exec.buffer "tokens" ["rows"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "qkv@pim" ["rows", 128 : i64] "float32" "temp" on "pim"
// CHECK-NEXT: exec.buffer "frame_positions@pim" ["rows"] "int32" "input" on "pim"
// CHECK-NEXT: exec.buffer "slots@pim" ["rows"] "int32" "input" on "pim"
// CHECK-NEXT: exec.buffer "cos@pim" [2048 : i64, 8 : i64] "float32" "state" on "pim"
// CHECK-NEXT: exec.buffer "sin@pim" [2048 : i64, 8 : i64] "float32" "state" on "pim"
// CHECK-NEXT: exec.buffer "keys.0" ["pages", 2 : i64, 16 : i64, 16 : i64] "float16" "state" on "pim"
// CHECK-NEXT: exec.buffer "values.0" ["pages", 2 : i64, 16 : i64, 16 : i64] "float16" "state" on "pim"
// CHECK-NEXT: exec.buffer "attended@pim" ["rows", 64 : i64] "float32" "temp" on "pim"
// CHECK-NEXT: exec.buffer "positions@pim" ["rows"] "int32" "input" on "pim"
// CHECK-NEXT: exec.buffer "row_requests@pim" ["rows"] "int32" "input" on "pim"
// CHECK-NEXT: exec.buffer "table_offsets@pim" ["requests1"] "int32" "input" on "pim"
// CHECK-NEXT: exec.buffer "pages@pim" ["table"] "int32" "input" on "pim"
// CHECK-NEXT: exec.buffer "frame_starts@pim" ["table"] "int32" "input" on "pim"
// CHECK-NEXT: exec.buffer "page_positions@pim" ["table"] "int32" "input" on "pim"
// CHECK-NEXT: exec.buffer "page_lengths@pim" ["table"] "int32" "input" on "pim"
// CHECK-NEXT: exec.buffer "staged_keys" ["staged_pages", 2 : i64, 16 : i64, 16 : i64] "float32" "temp" on "host"
// CHECK-NEXT: exec.buffer "staged_values" ["staged_pages", 2 : i64, 16 : i64, 16 : i64] "float32" "temp" on "host"
// CHECK-NEXT: exec.buffer "positions" ["rows"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "row_requests" ["rows"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "table_offsets" ["requests1"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "staged_pages" ["table"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "frame_starts" ["table"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "page_positions" ["table"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "page_lengths" ["table"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "cos" [2048 : i64, 8 : i64] "float32" "state" on "host"
// CHECK-NEXT: exec.buffer "sin" [2048 : i64, 8 : i64] "float32" "state" on "host"
// CHECK-NEXT: exec.buffer "logit_rows" ["logit_rows"] "int32" "input" on "host"
// CHECK-NEXT: exec.buffer "logits" ["logit_rows", 258 : i64] "float32" "output" on "host"
// CHECK-NEXT: exec.buffer "temp.0" ["rows", 64 : i64] "float32" "temp" on "host"
// CHECK-NEXT: exec.buffer "temp.1" ["rows", 128 : i64] "float32" "temp" on "host"
// CHECK-NEXT: exec.buffer "temp.2" ["rows", 64 : i64] "float32" "temp" on "host"
// CHECK-NEXT: exec.buffer "temp.3" ["logit_rows", 64 : i64] "float32" "temp" on "host"
// CHECK-NEXT: exec.weight "embed" on "host" for <"embed", {hidden = 64 : i64, vocab = 258 : i64}, {}, "float32", "host", "exact">
// CHECK-NEXT: exec.weight "layers.0.qkv" on "host" for <"linear", {inputs = 64 : i64, outputs = 128 : i64}, {}, "float32", "host", "exact">
// CHECK-NEXT: exec.weight "lm_head" on "host" for <"linear", {inputs = 64 : i64, outputs = 258 : i64}, {}, "float32", "host", "exact">
// CHECK-NEXT: exec.launch <"embed", {hidden = 64 : i64, vocab = 258 : i64}, {}, "float32", "host", "exact"> all ["tokens", "embed", "temp.0", "n"]
// CHECK-NEXT: exec.launch <"linear", {inputs = 64 : i64, outputs = 128 : i64}, {}, "float32", "host", "exact"> all ["temp.0", "layers.0.qkv", "temp.1", "n"]
// CHECK-NEXT: exec.copy "temp.1" to "qkv@pim" all
// CHECK-NEXT: exec.launch <"kv_append", {head_dim = 16 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, page_tokens = 16 : i64}, {}, "float32", "pim", "exact"> all ["qkv@pim", "frame_positions@pim", "slots@pim", "cos@pim", "sin@pim", "keys.0", "values.0", "n"]
// CHECK-NEXT: exec.launch <"attention_decode", {head_dim = 16 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, page_tokens = 16 : i64}, {}, "float32", "pim", "exact"> decode ["qkv@pim", "positions@pim", "row_requests@pim", "table_offsets@pim", "pages@pim", "frame_starts@pim", "page_positions@pim", "page_lengths@pim", "cos@pim", "sin@pim", "keys.0", "values.0", "attended@pim", "first", "n"]
// CHECK-NEXT: exec.copy "attended@pim" to "temp.2" decode
// CHECK-NEXT: exec.copy "keys.0" to "staged_keys" pages
// CHECK-NEXT: exec.copy "values.0" to "staged_values" pages
// CHECK-NEXT: exec.launch <"attention_prefill", {head_dim = 16 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, page_tokens = 16 : i64}, {}, "float32", "host", "exact"> prefill ["temp.1", "positions", "row_requests", "table_offsets", "staged_pages", "frame_starts", "page_positions", "page_lengths", "cos", "sin", "staged_keys", "staged_values", "temp.2", "first", "n"]
// CHECK-NEXT: exec.launch <"add", {hidden = 64 : i64}, {}, "float32", "host", "exact"> all ["temp.0", "temp.2", "n"]
// CHECK-NEXT: exec.launch <"take_rows", {hidden = 64 : i64}, {}, "float32", "host", "exact"> logits ["temp.0", "logit_rows", "temp.3", "n"]
// CHECK-NEXT: exec.launch <"linear", {inputs = 64 : i64, outputs = 258 : i64}, {}, "float32", "host", "exact"> logits ["temp.3", "lm_head", "logits", "n"]
// CHECK-NEXT: } {source = #flow.string<"tiny">, config = #flow.string<"{\22name\22: \22tiny\22, \22vocab_size\22: 258, \22hidden_size\22: 64, \22num_layers\22: 1, \22num_heads\22: 4, \22num_kv_heads\22: 2, \22head_dim\22: 16, \22ffn_size\22: 128, \22norm_eps\22: 1e-05, \22rope\22: {\22kind\22: \22plain\22, \22theta\22: 10000.0, \22factor\22: 1.0, \22original_context\22: 0, \22low_freq_factor\22: 1.0, \22high_freq_factor\22: 4.0, \22attention_factor\22: 1.0, \22beta_fast\22: 32.0, \22beta_slow\22: 1.0}, \22max_context\22: 2048, \22tie_embeddings\22: false, \22qkv_bias\22: false, \22qk_norm\22: false, \22bos_id\22: null, \22eos_ids\22: [257]}">, digest = "e81c6c9a99af939e15ed08036b05da38b7d7a9af784bc2c036ee6bd426b250dd", page_tokens = 16 : i64, max_rows = 64 : i64}

// -----

// Two functions that compute different things make no step program.
flow.model @m <"tiny">
nn.function @m_prefill prefill {
^bb0(%tokens: tensor<?xi32>, %cache: !nn.cache):
  %x = nn.embed %tokens "embed" : tensor<?xi32> -> tensor<?x64xf32>
  %qkv = nn.linear %x "layers.0.qkv" : tensor<?x64xf32> -> tensor<?x128xf32>
  %c = nn.append %qkv to %cache {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32>
  %att = nn.attention %qkv over %c {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32> -> tensor<?x64xf32>
  %y = nn.add %x, %att : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
  %rows = nn.take_rows %y : tensor<?x64xf32> -> tensor<?x64xf32>
  %logits = nn.linear %rows "embed" : tensor<?x64xf32> -> tensor<?x258xf32>
  nn.return %logits, %c : tensor<?x258xf32>, !nn.cache
} {config = #flow.string<"{\"name\": \"tiny\", \"vocab_size\": 258, \"hidden_size\": 64, \"num_layers\": 1, \"num_heads\": 4, \"num_kv_heads\": 2, \"head_dim\": 16, \"ffn_size\": 128, \"norm_eps\": 1e-05, \"rope\": {\"kind\": \"plain\", \"theta\": 10000.0, \"factor\": 1.0, \"original_context\": 0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"attention_factor\": 1.0, \"beta_fast\": 32.0, \"beta_slow\": 1.0}, \"max_context\": 2048, \"tie_embeddings\": false, \"qkv_bias\": false, \"qk_norm\": false, \"bos_id\": null, \"eos_ids\": [257]}">}
nn.function @m_decode decode {
^bb0(%tokens: tensor<?xi32>, %cache: !nn.cache):
  %x = nn.embed %tokens "embed" : tensor<?xi32> -> tensor<?x64xf32>
  %qkv = nn.linear %x "layers.0.qkv" : tensor<?x64xf32> -> tensor<?x128xf32>
  %c = nn.append %qkv to %cache {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32>
  %att = nn.attention %qkv over %c {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32> -> tensor<?x64xf32>
  %y = nn.add %x, %att : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
  %rows = nn.take_rows %y : tensor<?x64xf32> -> tensor<?x64xf32>
  %logits = nn.linear %rows "lm_head" : tensor<?x64xf32> -> tensor<?x258xf32>
  nn.return %logits, %c : tensor<?x258xf32>, !nn.cache
} {config = #flow.string<"{\"name\": \"tiny\", \"vocab_size\": 258, \"hidden_size\": 64, \"num_layers\": 1, \"num_heads\": 4, \"num_kv_heads\": 2, \"head_dim\": 16, \"ffn_size\": 128, \"norm_eps\": 1e-05, \"rope\": {\"kind\": \"plain\", \"theta\": 10000.0, \"factor\": 1.0, \"original_context\": 0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"attention_factor\": 1.0, \"beta_fast\": 32.0, \"beta_slow\": 1.0}, \"max_context\": 2048, \"tie_embeddings\": false, \"qkv_bias\": false, \"qk_norm\": false, \"bos_id\": null, \"eos_ids\": [257]}">}

// CHECK: @m_prefill and @m_decode compute different things; a step program needs them equal but for placement

// -----

// Rows that are read again cannot be added into.
flow.model @m <"tiny">
nn.function @m_prefill prefill {
^bb0(%tokens: tensor<?xi32>, %cache: !nn.cache):
  %x = nn.embed %tokens "embed" : tensor<?xi32> -> tensor<?x64xf32>
  %qkv = nn.linear %x "layers.0.qkv" : tensor<?x64xf32> -> tensor<?x128xf32>
  %c = nn.append %qkv to %cache {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32>
  %att = nn.attention %qkv over %c {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32> -> tensor<?x64xf32>
  %y = nn.add %x, %att : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
  %rows = nn.take_rows %x : tensor<?x64xf32> -> tensor<?x64xf32>
  %logits = nn.linear %rows "lm_head" : tensor<?x64xf32> -> tensor<?x258xf32>
  nn.return %logits, %c : tensor<?x258xf32>, !nn.cache
} {config = #flow.string<"{\"name\": \"tiny\", \"vocab_size\": 258, \"hidden_size\": 64, \"num_layers\": 1, \"num_heads\": 4, \"num_kv_heads\": 2, \"head_dim\": 16, \"ffn_size\": 128, \"norm_eps\": 1e-05, \"rope\": {\"kind\": \"plain\", \"theta\": 10000.0, \"factor\": 1.0, \"original_context\": 0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"attention_factor\": 1.0, \"beta_fast\": 32.0, \"beta_slow\": 1.0}, \"max_context\": 2048, \"tie_embeddings\": false, \"qkv_bias\": false, \"qk_norm\": false, \"bos_id\": null, \"eos_ids\": [257]}">}
nn.function @m_decode decode {
^bb0(%tokens: tensor<?xi32>, %cache: !nn.cache):
  %x = nn.embed %tokens "embed" : tensor<?xi32> -> tensor<?x64xf32>
  %qkv = nn.linear %x "layers.0.qkv" : tensor<?x64xf32> -> tensor<?x128xf32>
  %c = nn.append %qkv to %cache {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32>
  %att = nn.attention %qkv over %c {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64} : tensor<?x128xf32> -> tensor<?x64xf32>
  %y = nn.add %x, %att : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
  %rows = nn.take_rows %x : tensor<?x64xf32> -> tensor<?x64xf32>
  %logits = nn.linear %rows "lm_head" : tensor<?x64xf32> -> tensor<?x258xf32>
  nn.return %logits, %c : tensor<?x258xf32>, !nn.cache
} {config = #flow.string<"{\"name\": \"tiny\", \"vocab_size\": 258, \"hidden_size\": 64, \"num_layers\": 1, \"num_heads\": 4, \"num_kv_heads\": 2, \"head_dim\": 16, \"ffn_size\": 128, \"norm_eps\": 1e-05, \"rope\": {\"kind\": \"plain\", \"theta\": 10000.0, \"factor\": 1.0, \"original_context\": 0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"attention_factor\": 1.0, \"beta_fast\": 32.0, \"beta_slow\": 1.0}, \"max_context\": 2048, \"tie_embeddings\": false, \"qkv_bias\": false, \"qk_norm\": false, \"bos_id\": null, \"eos_ids\": [257]}">}

// CHECK: nn.add writes in place over rows that are read again
