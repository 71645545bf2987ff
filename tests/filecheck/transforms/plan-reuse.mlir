// RUN: tokenloom-opt --split-input-file --verify-diagnostics -p 'lower-flow-to-kv,cse,dce,plan-reuse' %s | filecheck %s

// Nothing begins as the one context there is: dense.
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
  flow.return %t : !flow.text
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      flow.workflow @main {
// CHECK-NEXT: %a = flow.spawn @A : !flow.agent<@A>
// CHECK-NEXT: %m = kv.root @m : !kv.context<dense>
// CHECK-NEXT: %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
// CHECK-NEXT: %h = kv.extend %m with(%s : !flow.segment) {source = #kv<source dense>, decision = #flow.string<"reuse.0">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %p = flow.segment <"Who?"> [87, 104, 111, 63]
// CHECK-NEXT: %prompt = kv.extend %h with(%p : !flow.segment) {source = #kv<source dense>, decision = #flow.string<"reuse.1">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t, %n = kv.decode %prompt for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: flow.return %t : !flow.text
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// Two agents have a system prompt of a page in common, and the second ask goes on from the first: prefix.
flow.model @m <"tiny">
flow.agent @A {
  %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
  flow.yield %s : !flow.segment
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.agent @B {
  %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
  flow.yield %s : !flow.segment
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.workflow @main {
  %a = flow.spawn @A : !flow.agent<@A>
  %h = flow.history %a : !flow.agent<@A>
  %b = flow.spawn @B : !flow.agent<@B>
  %hb = flow.history %b : !flow.agent<@B>
  %p = flow.segment <"Who?"> [87, 104, 111, 63]
  %t, %n = flow.ask %a after %h (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  %t2, %n2 = flow.ask %b after %hb (%t : !flow.text) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@B> -> !flow.text
  %t3, %n3 = flow.ask %a after %n (%t2 : !flow.text) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  flow.return %t3 : !flow.text
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      flow.workflow @main {
// CHECK-NEXT: %a = flow.spawn @A : !flow.agent<@A>
// CHECK-NEXT: %m = kv.root @m : !kv.context<dense>
// CHECK-NEXT: %s = flow.segment <"You are fair and patient."> [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119]
// CHECK-NEXT: %h = kv.extend %m with(%s : !flow.segment) {source = #kv<source prefix>, decision = #flow.string<"reuse.0">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %b = flow.spawn @B : !flow.agent<@B>
// CHECK-NEXT: %p = flow.segment <"Who?"> [87, 104, 111, 63]
// CHECK-NEXT: %prompt = kv.extend %h with(%p : !flow.segment) {source = #kv<source prefix>, decision = #flow.string<"reuse.1">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t, %n = kv.decode %prompt for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: %prompt_1 = kv.extend %h with(%t : !flow.text) {source = #kv<source prefix>, decision = #flow.string<"reuse.2">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t2, %n2 = kv.decode %prompt_1 for %b {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@B> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: %prompt_2 = kv.extend %n with(%t2 : !flow.text) {source = #kv<source prefix>, decision = #flow.string<"reuse.3">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t3, %n3 = kv.decode %prompt_2 for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: flow.return %t3 : !flow.text
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// Less than a page in common is not worth a look.
flow.model @m <"tiny">
flow.agent @A {
  flow.yield
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.workflow @main {
  %a = flow.spawn @A : !flow.agent<@A>
  %h = flow.history %a : !flow.agent<@A>
  %p = flow.segment <"Who?"> [87, 104, 111, 63]
  %t, %n = flow.ask %a after %h (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  %t2, %n2 = flow.ask %a after %h (%p, %t : !flow.segment, !flow.text) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  flow.return %t2 : !flow.text
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      flow.workflow @main {
// CHECK-NEXT: %a = flow.spawn @A : !flow.agent<@A>
// CHECK-NEXT: %m = kv.root @m : !kv.context<dense>
// CHECK-NEXT: %p = flow.segment <"Who?"> [87, 104, 111, 63]
// CHECK-NEXT: %prompt = kv.extend %m with(%p : !flow.segment) {source = #kv<source dense>, decision = #flow.string<"reuse.0">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t, %n = kv.decode %prompt for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: %prompt_1 = kv.extend %m with(%p, %t : !flow.segment, !flow.text) {source = #kv<source dense>, decision = #flow.string<"reuse.1">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t2, %n2 = kv.decode %prompt_1 for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: flow.return %t2 : !flow.text
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// What the assumed inputs never reach is looked up: that is exact.
flow.model @m <"tiny">
flow.agent @A {
  flow.yield
} {model = @m, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.workflow @main {
  %a = flow.spawn @A : !flow.agent<@A>
  %h = flow.history %a : !flow.agent<@A>
  %p = flow.segment <"Who?"> [87, 104, 111, 63]
  %f = arith.constant false
  scf.if %f {
    %t, %n = flow.ask %a after %h (%p : !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
  }
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      flow.workflow @main {
// CHECK-NEXT: %a = flow.spawn @A : !flow.agent<@A>
// CHECK-NEXT: %m = kv.root @m : !kv.context<dense>
// CHECK-NEXT: %p = flow.segment <"Who?"> [87, 104, 111, 63]
// CHECK-NEXT: %f = arith.constant false
// CHECK-NEXT: scf.if %f {
// CHECK-NEXT: %prompt = kv.extend %m with(%p : !flow.segment) {source = #kv<source prefix>, decision = #flow.string<"reuse.0">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t, %n = kv.decode %prompt for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: }
// CHECK-NEXT: flow.return
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// What all members of a gather read is computed once, behind the first one's head, and linked.
flow.model @m <"tiny">
flow.agent @A {
^bb0(%name: !flow.text):
  flow.yield %name : !flow.text
} {model = @m, params = ["name"], reuse = #flow<reuse linked>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.workflow @main {
  %one = flow.text <"Ann">
  %other = flow.text <"Bo">
  %rounds = arith.constant 2 : i64
  %a = flow.spawn @A (%one : !flow.text) : !flow.agent<@A>
  %b = flow.spawn @A (%other : !flow.text) : !flow.agent<@A>
  %ha = flow.history %a : !flow.agent<@A>
  %hb = flow.history %b : !flow.agent<@A>
  %as = flow.list (%a, %b : !flow.agent<@A>, !flow.agent<@A>) -> !flow.list<!flow.agent<@A>>
  %hs = flow.list (%ha, %hb : !flow.history, !flow.history) -> !flow.list<!flow.history>
  %o, %n = flow.gather %as after %hs for %rounds {place = #flow.string<"a.loom:1:1">} : !flow.list<!flow.agent<@A>>, !flow.list<!flow.history> -> !flow.list<!flow.text>, !flow.list<!flow.history> {
  ^bb0(%d: !flow.agent<@A>, %h: !flow.history, %others: !flow.list<!flow.text>, %round: i64):
    %p = flow.segment <"They said: "> [87, 104, 111, 63]
    %q = flow.segment <"Now you."> [88, 105]
    %t, %next = flow.ask %d after %h (%p, %others, %q : !flow.segment, !flow.list<!flow.text>, !flow.segment) {max_tokens = 20 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
    flow.yield %t, %next : !flow.text, !flow.history
  }
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      %o, %n = flow.gather %as after %hs for %rounds {place = #flow.string<"a.loom:1:1">} : !flow.list<!flow.agent<@A>>, !flow.list<!kv.context<dense>> -> !flow.list<!flow.text>, !flow.list<!kv.context<dense>> {
// CHECK-NEXT: ^bb0(%d: !flow.agent<@A>, %h: !kv.context<dense>, %others: !flow.list<!flow.text>, %round: i64, %run: !kv.run):
// CHECK-NEXT: %p = flow.segment <"They said: "> [87, 104, 111, 63]
// CHECK-NEXT: %q = flow.segment <"Now you."> [88, 105]
// CHECK-NEXT: %head = kv.extend %h with(%p : !flow.segment) {source = #kv<source prefix>, decision = #flow.string<"reuse.2">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %linked = kv.link %head, %run {decision = #flow.string<"reuse.2">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %prompt = kv.extend %linked with(%q : !flow.segment) {source = #kv<source dense>, decision = #flow.string<"reuse.2">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t, %next = kv.decode %prompt for %d {max_tokens = 20 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: flow.yield %t, %next : !flow.text, !kv.context<dense>
// CHECK-NEXT: } sharing {
// CHECK-NEXT: ^bb0(%d_1: !flow.agent<@A>, %h_1: !kv.context<dense>, %others_1: !flow.list<!flow.text>, %round_1: i64):
// CHECK-NEXT: %p_1 = flow.segment <"They said: "> [87, 104, 111, 63]
// CHECK-NEXT: %head_1 = kv.extend %h_1 with(%p_1 : !flow.segment) {source = #kv<source prefix>, decision = #flow.string<"reuse.2">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %read = kv.extend %head_1 with(%others_1 : !flow.list<!flow.text>) {source = #kv<source dense>, decision = #flow.string<"reuse.2">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %run_1 = kv.slice %read behind %head_1 : !kv.context<dense>, !kv.context<dense>
// CHECK-NEXT: flow.yield %run_1 : !kv.run
// CHECK-NEXT: }
// CHECK-NEXT: flow.return

// -----

// An exact agent computes the same text itself.
flow.model @m <"tiny">
flow.agent @A {
^bb0(%name: !flow.text):
  flow.yield %name : !flow.text
} {model = @m, params = ["name"], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.workflow @main {
  %one = flow.text <"Ann">
  %other = flow.text <"Bo">
  %rounds = arith.constant 2 : i64
  %a = flow.spawn @A (%one : !flow.text) : !flow.agent<@A>
  %b = flow.spawn @A (%other : !flow.text) : !flow.agent<@A>
  %ha = flow.history %a : !flow.agent<@A>
  %hb = flow.history %b : !flow.agent<@A>
  %as = flow.list (%a, %b : !flow.agent<@A>, !flow.agent<@A>) -> !flow.list<!flow.agent<@A>>
  %hs = flow.list (%ha, %hb : !flow.history, !flow.history) -> !flow.list<!flow.history>
  %o, %n = flow.gather %as after %hs for %rounds {place = #flow.string<"a.loom:1:1">} : !flow.list<!flow.agent<@A>>, !flow.list<!flow.history> -> !flow.list<!flow.text>, !flow.list<!flow.history> {
  ^bb0(%d: !flow.agent<@A>, %h: !flow.history, %others: !flow.list<!flow.text>, %round: i64):
    %p = flow.segment <"They said: "> [87, 104, 111, 63]
    %q = flow.segment <"Now you."> [88, 105]
    %t, %next = flow.ask %d after %h (%p, %others, %q : !flow.segment, !flow.list<!flow.text>, !flow.segment) {max_tokens = 20 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !flow.agent<@A> -> !flow.text
    flow.yield %t, %next : !flow.text, !flow.history
  }
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      %o, %n = flow.gather %as after %hs for %rounds {place = #flow.string<"a.loom:1:1">} : !flow.list<!flow.agent<@A>>, !flow.list<!kv.context<dense>> -> !flow.list<!flow.text>, !flow.list<!kv.context<dense>> {
// CHECK-NEXT: ^bb0(%d: !flow.agent<@A>, %h: !kv.context<dense>, %others: !flow.list<!flow.text>, %round: i64):
// CHECK-NEXT: %p = flow.segment <"They said: "> [87, 104, 111, 63]
// CHECK-NEXT: %q = flow.segment <"Now you."> [88, 105]
// CHECK-NEXT: %prompt = kv.extend %h with(%p, %others, %q : !flow.segment, !flow.list<!flow.text>, !flow.segment) {source = #kv<source prefix>, decision = #flow.string<"reuse.2">} : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t, %next = kv.decode %prompt for %d {max_tokens = 20 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>} : !kv.context<dense>, !flow.agent<@A> -> !flow.text, !kv.context<dense>
// CHECK-NEXT: flow.yield %t, %next : !flow.text, !kv.context<dense>
// CHECK-NEXT: }
// CHECK-NEXT: flow.return
