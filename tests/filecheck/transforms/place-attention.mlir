// RUN: tokenloom-opt --split-input-file --verify-diagnostics -p 'place-attention{machine=attacc-hbm3 device=auto}' %s | filecheck %s

// Decode goes where the table is quickest most often, prefill stays with the linear layers.
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

// CHECK: %att = nn.attention %qkv over %c {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64, placement = #nn<placement cuda>, decision = #flow.string<"placement.m_prefill">} : tensor<?x128xf32> -> tensor<?x64xf32>
// CHECK: %att = nn.attention %qkv over %c {layer = 0 : i64, num_heads = 4 : i64, num_kv_heads = 2 : i64, head_dim = 16 : i64, placement = #nn<placement cuda>, decision = #flow.string<"placement.m_decode">} : tensor<?x128xf32> -> tensor<?x64xf32>
