// RUN: tokenloom-opt --split-input-file --verify-diagnostics -p 'lower-flow-to-kv' %s | filecheck %s

// A first history is the empty context and the system prompt; an ask extends it and decodes.
flow.model @m <"tiny">
flow.agent @A {
  %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
  flow.yield %s : !flow.segment
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.workflow @main {
  %a = flow.spawn @A : !flow.agent<@A>
  %h = flow.history %a : !flow.agent<@A>
  %p = flow.segment <"Who?"> [87, 104, 111, 63]
  %t, %n = flow.ask %a after %h (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  %t2, %n2 = flow.ask %a after %n (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
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
// CHECK-NEXT: %prompt_1 = kv.extend %n with(%p : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t2, %n2 = kv.decode %prompt_1 for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: flow.return
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// Without a system prompt the first history is the empty context.
flow.model @m <"tiny">
flow.agent @A {
  flow.yield
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.workflow @main {
  %a = flow.spawn @A : !flow.agent<@A>
  %h = flow.history %a : !flow.agent<@A>
  %p = flow.segment <"Who?"> [87, 104, 111, 63]
  %t, %n = flow.ask %a after %h (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      flow.workflow @main {
// CHECK-NEXT: %a = flow.spawn @A : !flow.agent<@A>
// CHECK-NEXT: %m = kv.root @m : !kv.context<dense>
// CHECK-NEXT: %p = flow.segment <"Who?"> [87, 104, 111, 63]
// CHECK-NEXT: %prompt = kv.extend %m with(%p : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t, %n = kv.decode %prompt for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: flow.return
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// With history = last(2) an ask sees the system prompt and two turns.
flow.model @m <"tiny">
flow.agent @A {
  %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
  flow.yield %s : !flow.segment
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = 2 : i64}
flow.workflow @main {
  %a = flow.spawn @A : !flow.agent<@A>
  %h = flow.history %a : !flow.agent<@A>
  %p = flow.segment <"Who?"> [87, 104, 111, 63]
  %t, %n = flow.ask %a after %h (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  %t2, %n2 = flow.ask %a after %n (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      flow.workflow @main {
// CHECK-NEXT: %a = flow.spawn @A : !flow.agent<@A>
// CHECK-NEXT: %m = kv.root @m : !kv.context<dense>
// CHECK-NEXT: %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
// CHECK-NEXT: %h = kv.extend %m with(%s : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %p = flow.segment <"Who?"> [87, 104, 111, 63]
// CHECK-NEXT: %window = kv.window %h 2 : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %prompt = kv.extend %window with(%p : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t, %n = kv.decode %prompt for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: %window_1 = kv.window %n 2 : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %prompt_1 = kv.extend %window_1 with(%p : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t2, %n2 = kv.decode %prompt_1 for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: flow.return
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// With history = none the second ask starts from the same context as the first.
flow.model @m <"tiny">
flow.agent @A {
  %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
  flow.yield %s : !flow.segment
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = 0 : i64}
flow.workflow @main {
  %a = flow.spawn @A : !flow.agent<@A>
  %h = flow.history %a : !flow.agent<@A>
  %p = flow.segment <"Who?"> [87, 104, 111, 63]
  %t, %n = flow.ask %a after %h (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  %t2, %n2 = flow.ask %a after %n (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      flow.workflow @main {
// CHECK-NEXT: %a = flow.spawn @A : !flow.agent<@A>
// CHECK-NEXT: %m = kv.root @m : !kv.context<dense>
// CHECK-NEXT: %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
// CHECK-NEXT: %h = kv.extend %m with(%s : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %p = flow.segment <"Who?"> [87, 104, 111, 63]
// CHECK-NEXT: %prompt = kv.extend %h with(%p : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t, %t_1 = kv.decode %prompt for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: %prompt_1 = kv.extend %h with(%p : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t2, %t2_1 = kv.decode %prompt_1 for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: flow.return
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// An argument of the agent stands in its system prompt: the value itself where it is in sight.
flow.model @m <"tiny">
flow.agent @A {
^bb0(%name: !flow.text, %unused: i64):
  flow.yield %name : !flow.text
} {model = @m, params = ["name", "unused"], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.workflow @main {
^bb0(%x: !flow.text, %i: i64, %given: !flow.agent<@A>):
  %a = flow.spawn @A (%x, %i : !flow.text, i64) : !flow.agent<@A>
  %h = flow.history %a : !flow.agent<@A>
  %h2 = flow.history %given : !flow.agent<@A>
  %l = flow.list (%h, %h2 : !flow.history, !flow.history) -> !flow.list<!flow.history>
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      flow.workflow @main {
// CHECK-NEXT: ^bb0(%x: !flow.text, %i: i64, %given: !flow.agent<@A>):
// CHECK-NEXT: %a = flow.spawn @A(%x, %i : !flow.text, i64) : !flow.agent<@A>
// CHECK-NEXT: %m = kv.root @m : !kv.context<dense>
// CHECK-NEXT: %h = kv.extend %m with(%x : !flow.text) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %m_1 = kv.root @m : !kv.context<dense>
// CHECK-NEXT: %h2 = flow.param %given "name" : !flow.agent<@A> -> !flow.text
// CHECK-NEXT: %h2_1 = kv.extend %m_1 with(%h2 : !flow.text) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %l = flow.list(%h, %h2_1 : !kv.context<dense>, !kv.context<dense>) -> !flow.list<!kv.context<dense>>
// CHECK-NEXT: flow.return
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// Regions stay; their arguments, results and lists change type, and nothing else does.
flow.model @m <"tiny">
flow.agent @A {
  %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
  flow.yield %s : !flow.segment
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.workflow @main {
^bb0(%as: !flow.list<!flow.agent<@A>>, %hs: !flow.list<!flow.history>, %r: i64, %f: i1):
  %p = flow.segment <"Who?"> [87, 104, 111, 63]
  %o, %n = flow.gather %as after %hs for %r {place = #flow.string<"a.loom:1:1">} : !flow.list<!flow.agent<@A>>, !flow.list<!flow.history> -> !flow.list<!flow.text>, !flow.list<!flow.history> {
  ^bb1(%a: !flow.agent<@A>, %h: !flow.history, %others: !flow.list<!flow.text>, %round: i64):
    %t, %m = flow.ask %a after %h (%p, %others : !flow.segment, !flow.list<!flow.text>) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
    flow.yield %t, %m : !flow.text, !flow.history
  }
  %c = scf.if %f -> (!flow.list<!flow.history>) {
    scf.yield %hs : !flow.list<!flow.history>
  } else {
    scf.yield %n : !flow.list<!flow.history>
  }
  %opt = flow.some %c : !flow.list<!flow.history> -> !flow.optional<!flow.list<!flow.history>>
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      flow.workflow @main {
// CHECK-NEXT: ^bb0(%as: !flow.list<!flow.agent<@A>>, %hs: !flow.list<!kv.context<dense>>, %r: i64, %f: i1):
// CHECK-NEXT: %p = flow.segment <"Who?"> [87, 104, 111, 63]
// CHECK-NEXT: %o, %n = flow.gather %as after %hs for %r {place = #flow.string<"a.loom:1:1">} : !flow.list<!flow.agent<@A>>, !flow.list<!kv.context<dense>> -> !flow.list<!flow.text>, !flow.list<!kv.context<dense>> {
// CHECK-NEXT: ^bb0(%a: !flow.agent<@A>, %h: !kv.context<dense>, %others: !flow.list<!flow.text>, %round: i64):
// CHECK-NEXT: %prompt = kv.extend %h with(%p, %others : !flow.segment, !flow.list<!flow.text>) : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t, %m = kv.decode %prompt for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: flow.yield %t, %m : !flow.text, !kv.context<dense>
// CHECK-NEXT: }
// CHECK-NEXT: %c = scf.if %f -> (!flow.list<!kv.context<dense>>) {
// CHECK-NEXT: scf.yield %hs : !flow.list<!kv.context<dense>>
// CHECK-NEXT: } else {
// CHECK-NEXT: scf.yield %n : !flow.list<!kv.context<dense>>
// CHECK-NEXT: }
// CHECK-NEXT: %opt = flow.some %c : !flow.list<!kv.context<dense>> -> !flow.optional<!flow.list<!kv.context<dense>>>
// CHECK-NEXT: flow.return
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// An ask of classes that keep their histories differently has no single meaning.
flow.model @m <"tiny">
flow.agent @A {
  %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
  flow.yield %s : !flow.segment
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.agent @B {
  %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
  flow.yield %s : !flow.segment
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = 0 : i64}
flow.workflow @main {
^bb0(%a: !flow.agent<@A, @B>, %h: !flow.history):
  %t, %n = flow.ask %a after %h {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A, @B> -> !flow.text
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK: error: an ask of A or B, which keep their histories differently; give both the same `history`

// -----

// A module without asks is left as it is.
flow.workflow @main {
  %0 = flow.text <"x">
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      flow.workflow @main {
// CHECK-NEXT: %0 = flow.text <"x">
// CHECK-NEXT: flow.return
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}
