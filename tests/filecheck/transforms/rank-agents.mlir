// RUN: tokenloom-opt --split-input-file --verify-diagnostics -p 'lower-flow-to-kv,cse,dce,rank-agents' %s | filecheck %s

// Of a chain the first ask ranks highest; an ask that nothing waits for has slack.
flow.model @m <"tiny">
flow.agent @A {
  %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
  flow.yield %s : !flow.segment
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.workflow @main {
  %a = flow.spawn @A : !flow.agent<@A>
  %h = flow.history %a : !flow.agent<@A>
  %p = flow.segment <"Who?"> [87, 104, 111, 63]
  %t, %n = flow.ask %a after %h (%p : !flow.segment) {max_tokens = 64 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  %t2, %n2 = flow.ask %a after %n (%t : !flow.text) {max_tokens = 64 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:2:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  %t3, %n3 = flow.ask %a after %h (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:3:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  flow.return %t2 : !flow.text
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK: %t, %n = kv.decode %prompt for %a {max_tokens = 64 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 2 : i64, slack_ns = 0 : i64} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK: %t2, %n2 = kv.decode %prompt_1 for %a {max_tokens = 64 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:2:1">, close_tokens = array<i32: 257>, priority = 1 : i64, slack_ns = 0 : i64} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK: %t3, %n3 = kv.decode %prompt for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:3:1">, close_tokens = array<i32: 257>, priority = 0 : i64, slack_ns = {{[1-9][0-9]*}} : i64} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>

// -----

// A slow tool behind an ask makes it more urgent than a longer ask beside it.
flow.model @m <"tiny">
flow.tool @t {params = ["x"], types = [#flow.string<"{\"kind\":\"text\"}">], result = #flow.string<"{\"kind\":\"text\"}">, impl = #flow.string<"m:f">, takes_ns = 9000000000 : i64, timeout_ns = 1 : i64, retries = 0 : i64}
flow.agent @A {
  %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
  flow.yield %s : !flow.segment
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.workflow @main {
  %a = flow.spawn @A : !flow.agent<@A>
  %h = flow.history %a : !flow.agent<@A>
  %p = flow.segment <"Who?"> [87, 104, 111, 63]
  %t, %n = flow.ask %a after %h (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  %t2, %n2 = flow.ask %a after %h (%p : !flow.segment) {max_tokens = 64 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:2:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  %u = flow.call @t (%t : !flow.text) {place = #flow.string<"a.loom:3:1">} -> !flow.text
  flow.return %u : !flow.text
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK: %t, %n = kv.decode %prompt for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 1 : i64, slack_ns = 0 : i64} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK: %t2, %n2 = kv.decode %prompt for %a {max_tokens = 64 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:2:1">, close_tokens = array<i32: 257>, priority = 0 : i64, slack_ns = {{[1-9][0-9]*}} : i64} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>

// -----

// Asks that are never reached are not urgent.
flow.model @m <"tiny">
flow.agent @A {
  %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
  flow.yield %s : !flow.segment
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.workflow @main {
  %a = flow.spawn @A : !flow.agent<@A>
  %h = flow.history %a : !flow.agent<@A>
  %p = flow.segment <"Who?"> [87, 104, 111, 63]
  %f = arith.constant false
  scf.if %f {
    %t, %n = flow.ask %a after %h (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  }
  %t2, %n2 = flow.ask %a after %h (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  flow.return %t2 : !flow.text
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK: %t, %n = kv.decode %prompt for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64, slack_ns = {{[1-9][0-9]*}} : i64} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK: %t2, %n2 = kv.decode %prompt_1 for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 1 : i64, slack_ns = 0 : i64} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
