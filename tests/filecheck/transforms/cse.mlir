// RUN: tokenloom-opt --split-input-file --verify-diagnostics -p 'lower-flow-to-kv,cse,dce' %s | filecheck %s

// Equal extensions are one: two agents of one class share their system prompt. Asks are never merged.
flow.model @m <"tiny">
flow.agent @A {
  %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
  flow.yield %s : !flow.segment
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.workflow @main {
  %a = flow.spawn @A : !flow.agent<@A>
  %h = flow.history %a : !flow.agent<@A>
  %b = flow.spawn @A : !flow.agent<@A>
  %hb = flow.history %b : !flow.agent<@A>
  %p = flow.segment <"Who?"> [87, 104, 111, 63]
  %t, %n = flow.ask %a after %h (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  %t2, %n2 = flow.ask %b after %hb (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      flow.workflow @main {
// CHECK-NEXT: %a = flow.spawn @A : !flow.agent<@A>
// CHECK-NEXT: %m = kv.root @m : !kv.context<dense>
// CHECK-NEXT: %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
// CHECK-NEXT: %h = kv.extend %m with(%s : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %p = flow.segment <"Who?"> [87, 104, 111, 63]
// CHECK-NEXT: %prompt = kv.extend %h with(%p : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t, %n = kv.decode %prompt for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: %t2, %n2 = kv.decode %prompt for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: flow.return
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// Tools are called as often as they are written, and asks whose answers nobody reads stay.
flow.model @m <"tiny">
flow.agent @A {
  %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
  flow.yield %s : !flow.segment
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.workflow @main {
  %a = flow.spawn @A : !flow.agent<@A>
  %h = flow.history %a : !flow.agent<@A>
  %x = flow.call @t {place = #flow.string<"a.loom:1:1">} -> !flow.text
  %y = flow.call @t {place = #flow.string<"a.loom:1:1">} -> !flow.text
  %t, %n = flow.ask %a after %h (%x : !flow.text) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      flow.workflow @main {
// CHECK-NEXT: %a = flow.spawn @A : !flow.agent<@A>
// CHECK-NEXT: %m = kv.root @m : !kv.context<dense>
// CHECK-NEXT: %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
// CHECK-NEXT: %h = kv.extend %m with(%s : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %x = flow.call @t {place = #flow.string<"a.loom:1:1">} -> !flow.text
// CHECK-NEXT: %y = flow.call @t {place = #flow.string<"a.loom:1:1">} -> !flow.text
// CHECK-NEXT: %prompt = kv.extend %h with(%x : !flow.text) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t, %n = kv.decode %prompt for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: flow.return
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}
