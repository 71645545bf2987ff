// Each op in its custom form, then through the generic form and back: nothing is lost.
// RUN: tokenloom-opt %s | tokenloom-opt - | filecheck %s
// RUN: tokenloom-opt %s --print-op-generic | tokenloom-opt - | filecheck %s

flow.model @smol <"tiny"> {dtype = "float32", adapter = #flow.string<"näht">}
flow.tool @search {params = ["query"], types = [#flow.string<"{\"kind\":\"text\"}">], result = #flow.string<"{\"kind\":\"text\"}">, impl = #flow.string<"tools:search">, takes_ns = 1500 : i64, timeout_ns = 60 : i64, retries = 2 : i64, pure = true}
flow.tool @post {params = [], types = [], result = #flow.string<"{\"kind\":\"text\"}">, command = [#flow.string<"post">, #flow.string<"{x}">], timeout_ns = 60 : i64, retries = 0 : i64, effect = true}
flow.agent @Judge {
^bb0(%name: !flow.text):
  %0 = flow.text <"Sei fair, 審判 \"x\"\n">
  flow.yield %0, %name : !flow.text, !flow.text
} {model = @smol, params = ["name"], reuse = #flow<reuse linked>, refresh = 0.15 : f64, importance = 9 : i64, temperature = 0.5 : f64, top_p = 1.0 : f64, seed = 3 : i64, stop = [#flow.string<"END">], history = 2 : i64}
flow.agent @Plain {
  flow.yield
} {model = @smol, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = [], history = -1 : i64}
flow.workflow @helper {
  %0 = flow.text <"x">
  flow.return %0 : !flow.text
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
flow.workflow @main {
^bb0(%topic: !flow.text, %rounds: i64, %flag: i1, %texts: !flow.list<!flow.text>):
  %a = flow.spawn @Judge (%topic : !flow.text) : !flow.agent<@Judge>
  %p = flow.param %a "name" : !flow.agent<@Judge> -> !flow.text
  %h = flow.history %a : !flow.agent<@Judge>
  %s = flow.segment <"Who?"> [1, 2, -3]
  %m = flow.segment <"<|im_end|>"> [257] {marker = true}
  %t0, %h0 = flow.ask %a after %h (%m, %topic, %s : !flow.segment, !flow.text, !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:2">, options = #flow.string<"{}">, close_tokens = array<i32: 257, 10>} : !flow.agent<@Judge> -> !flow.text
  %t1, %h1 = flow.ask %a after %h0 {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:2:2">} : !flow.agent<@Judge> -> !flow.text
  %agents = flow.list (%a : !flow.agent<@Judge>) -> !flow.list<!flow.agent<@Judge>>
  %histories = flow.list (%h1 : !flow.history) -> !flow.list<!flow.history>
  %outs, %lasts = flow.gather %agents after %histories for %rounds {place = #flow.string<"a.loom:3:2">} : !flow.list<!flow.agent<@Judge>>, !flow.list<!flow.history> -> !flow.list<!flow.text>, !flow.list<!flow.history> {
  ^bb1(%member: !flow.agent<@Judge>, %mh: !flow.history, %others: !flow.list<!flow.text>, %round: i64):
    flow.yield %topic, %mh : !flow.text, !flow.history
  }
  %tok = flow.token
  %mapped, %tok1 = flow.map %texts carry (%tok : !flow.token) : !flow.list<!flow.text> -> (!flow.list<i64>) then !flow.token {
  ^bb2(%item: !flow.text, %i: i64, %c: !flow.token):
    flow.yield %i, %c : i64, !flow.token
  }
  %plain = flow.map %texts : !flow.list<!flow.text> -> (!flow.list<!flow.text>) {
  ^bb3(%item2: !flow.text, %i2: i64):
    flow.yield %item2 : !flow.text
  }
  %found = flow.call @search (%topic : !flow.text) {place = #flow.string<"a.loom:4:2">} -> !flow.text
  %posted, %tok2 = flow.effect @post after %tok1 {place = #flow.string<"a.loom:5:2">} -> !flow.text
  %invoked = flow.invoke @helper {place = #flow.string<"a.loom:6:2">} -> !flow.text
  flow.assert %flag, %topic {place = #flow.string<"a.loom:7:2">}
  flow.fail %topic {place = #flow.string<"a.loom:8:2">}
  %none = flow.none : !flow.optional<!flow.text>
  %some = flow.some %topic : !flow.text -> !flow.optional<!flow.text>
  %empty = flow.list -> !flow.list<!flow.text>
  %rec = flow.record (%topic, %rounds : !flow.text, i64) -> !flow.record<"who": !flow.text, "score": i64>
  %field = flow.field %rec "score" : !flow.record<"who": !flow.text, "score": i64> -> i64
  %element = flow.index %texts[%rounds] : !flow.list<!flow.text> -> !flow.text
  %changed = flow.update %texts[%rounds] = %topic : !flow.list<!flow.text>, !flow.text -> !flow.list<!flow.text>
  %len = flow.len %texts : !flow.list<!flow.text>
  %joined = flow.join %texts, %topic : !flow.list<!flow.text>
  %concat = flow.concat (%topic, %rounds : !flow.text, i64)
  %nothing = flow.concat
  %sum = flow.binary add %rounds, %len : i64, i64 -> i64
  %in = flow.binary in %topic, %texts : !flow.text, !flow.list<!flow.text> -> i1
  %not = flow.unary not %flag : i1 -> i1
  flow.return %t0 : !flow.text
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:        builtin.module {
// CHECK-NEXT:   flow.model @smol <"tiny"> {dtype = "float32", adapter = #flow.string<"n\C3\A4ht">}
// CHECK-NEXT:   flow.tool @search {params = ["query"], types = [#flow.string<"{\22kind\22:\22text\22}">], result = #flow.string<"{\22kind\22:\22text\22}">, impl = #flow.string<"tools:search">, takes_ns = 1500 : i64, timeout_ns = 60 : i64, retries = 2 : i64, pure = true}
// CHECK-NEXT:   flow.tool @post {params = [], types = [], result = #flow.string<"{\22kind\22:\22text\22}">, command = [#flow.string<"post">, #flow.string<"{x}">], timeout_ns = 60 : i64, retries = 0 : i64, effect = true}
// CHECK-NEXT:   flow.agent @Judge {
// CHECK-NEXT:   ^bb0(%name: !flow.text):
// CHECK-NEXT:   %0 = flow.text <"Sei fair, \E5\AF\A9\E5\88\A4 \22x\22\0A">
// CHECK-NEXT:   flow.yield %0, %name : !flow.text, !flow.text
// CHECK-NEXT:   } {model = @smol, params = ["name"], reuse = #flow<reuse linked>, refresh = 1.500000e-01 : f64, importance = 9 : i64, temperature = 5.000000e-01 : f64, top_p = 1.000000e+00 : f64, seed = 3 : i64, stop = [#flow.string<"END">], history = 2 : i64}
// CHECK-NEXT:   flow.agent @Plain {
// CHECK-NEXT:   flow.yield
// CHECK-NEXT:   } {model = @smol, params = [], reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.000000e+00 : f64, top_p = 1.000000e+00 : f64, stop = [], history = -1 : i64}
// CHECK-NEXT:   flow.workflow @helper {
// CHECK-NEXT:   %0 = flow.text <"x">
// CHECK-NEXT:   flow.return %0 : !flow.text
// CHECK-NEXT:   } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}
// CHECK-NEXT:   flow.workflow @main {
// CHECK-NEXT:   ^bb0(%topic: !flow.text, %rounds: i64, %flag: i1, %texts: !flow.list<!flow.text>):
// CHECK-NEXT:   %a = flow.spawn @Judge(%topic : !flow.text) : !flow.agent<@Judge>
// CHECK-NEXT:   %p = flow.param %a "name" : !flow.agent<@Judge> -> !flow.text
// CHECK-NEXT:   %h = flow.history %a : !flow.agent<@Judge>
// CHECK-NEXT:   %s = flow.segment <"Who?"> [1, 2, -3]
// CHECK-NEXT:   %m = flow.segment <"<|im_end|>"> [257] {marker = true}
// CHECK-NEXT:   %t0, %h0 = flow.ask %a after %h(%m, %topic, %s : !flow.segment, !flow.text, !flow.segment) {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:2">, options = #flow.string<"{}">, close_tokens = array<i32: 257, 10>} : !flow.agent<@Judge> -> !flow.text
// CHECK-NEXT:   %t1, %h1 = flow.ask %a after %h0 {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:2:2">} : !flow.agent<@Judge> -> !flow.text
// CHECK-NEXT:   %agents = flow.list(%a : !flow.agent<@Judge>) -> !flow.list<!flow.agent<@Judge>>
// CHECK-NEXT:   %histories = flow.list(%h1 : !flow.history) -> !flow.list<!flow.history>
// CHECK-NEXT:   %outs, %lasts = flow.gather %agents after %histories for %rounds {place = #flow.string<"a.loom:3:2">} : !flow.list<!flow.agent<@Judge>>, !flow.list<!flow.history> -> !flow.list<!flow.text>, !flow.list<!flow.history> {
// CHECK-NEXT:   ^bb0(%member: !flow.agent<@Judge>, %mh: !flow.history, %others: !flow.list<!flow.text>, %round: i64):
// CHECK-NEXT:   flow.yield %topic, %mh : !flow.text, !flow.history
// CHECK-NEXT:   }
// CHECK-NEXT:   %tok = flow.token
// CHECK-NEXT:   %mapped, %tok1 = flow.map %texts carry(%tok : !flow.token) : !flow.list<!flow.text> -> (!flow.list<i64>) then !flow.token {
// CHECK-NEXT:   ^bb0(%item: !flow.text, %i: i64, %c: !flow.token):
// CHECK-NEXT:   flow.yield %i, %c : i64, !flow.token
// CHECK-NEXT:   }
// CHECK-NEXT:   %plain = flow.map %texts : !flow.list<!flow.text> -> (!flow.list<!flow.text>) {
// CHECK-NEXT:   ^bb0(%item2: !flow.text, %i2: i64):
// CHECK-NEXT:   flow.yield %item2 : !flow.text
// CHECK-NEXT:   }
// CHECK-NEXT:   %found = flow.call @search(%topic : !flow.text) {place = #flow.string<"a.loom:4:2">} -> !flow.text
// CHECK-NEXT:   %posted, %tok2 = flow.effect @post after %tok1 {place = #flow.string<"a.loom:5:2">} -> !flow.text
// CHECK-NEXT:   %invoked = flow.invoke @helper {place = #flow.string<"a.loom:6:2">} -> !flow.text
// CHECK-NEXT:   flow.assert %flag, %topic {place = #flow.string<"a.loom:7:2">}
// CHECK-NEXT:   flow.fail %topic {place = #flow.string<"a.loom:8:2">}
// CHECK-NEXT:   %none = flow.none : !flow.optional<!flow.text>
// CHECK-NEXT:   %some = flow.some %topic : !flow.text -> !flow.optional<!flow.text>
// CHECK-NEXT:   %empty = flow.list -> !flow.list<!flow.text>
// CHECK-NEXT:   %rec = flow.record(%topic, %rounds : !flow.text, i64) -> !flow.record<"who": !flow.text, "score": i64>
// CHECK-NEXT:   %field = flow.field %rec "score" : !flow.record<"who": !flow.text, "score": i64> -> i64
// CHECK-NEXT:   %element = flow.index %texts[%rounds] : !flow.list<!flow.text> -> !flow.text
// CHECK-NEXT:   %changed = flow.update %texts[%rounds] = %topic : !flow.list<!flow.text>, !flow.text -> !flow.list<!flow.text>
// CHECK-NEXT:   %len = flow.len %texts : !flow.list<!flow.text>
// CHECK-NEXT:   %joined = flow.join %texts, %topic : !flow.list<!flow.text>
// CHECK-NEXT:   %concat = flow.concat(%topic, %rounds : !flow.text, i64)
// CHECK-NEXT:   %nothing = flow.concat
// CHECK-NEXT:   %sum = flow.binary add %rounds, %len : i64, i64 -> i64
// CHECK-NEXT:   %in = flow.binary in %topic, %texts : !flow.text, !flow.list<!flow.text> -> i1
// CHECK-NEXT:   %not = flow.unary not %flag : i1 -> i1
// CHECK-NEXT:   flow.return %t0 : !flow.text
// CHECK-NEXT:   } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}
// CHECK-NEXT:   }
