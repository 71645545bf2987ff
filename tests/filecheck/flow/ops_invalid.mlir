// Every message of the verifiers, one wrong module each.
// RUN: tokenloom-opt %s --verify-diagnostics --parsing-diagnostics --split-input-file | filecheck %s

// A tool is a callable or a command, not both, and not neither.
flow.tool @t {params = [], types = [], result = #flow.string<"{\"kind\":\"text\"}">, timeout_ns = 1 : i64, retries = 0 : i64}
// CHECK: tool @t needs either impl or command

// -----

// Every parameter of a tool has a type.
flow.tool @t {params = ["a"], types = [], result = #flow.string<"{\"kind\":\"text\"}">, impl = #flow.string<"m:f">, timeout_ns = 1 : i64, retries = 0 : i64}
// CHECK: tool @t has params without a type

// -----

// The body of a class takes its parameters.
flow.agent @A {
  flow.yield
} {params = ["x"], history = -1 : i64, model = @smol, reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = []}
// CHECK: agent @A: params and body arguments differ

// -----

// A history is counted in turns.
flow.agent @A {
  flow.yield
} {params = [], history = -2 : i64, model = @smol, reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = []}
// CHECK: agent @A: history is -1 or a turn count

// -----

// A workflow returns.
flow.workflow @main {
  flow.yield
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: workflow @main: the body ends with flow.return

// -----

// A return ends workflows alone.
flow.agent @A {
  flow.return
} {params = [], history = -1 : i64, model = @smol, reuse = #flow<reuse exact>, importance = 5 : i64, temperature = 0.0 : f64, top_p = 1.0 : f64, stop = []}
// CHECK: 'flow.return' expects parent op 'flow.workflow'

// -----

// An ask needs a budget.
flow.workflow @main {
^bb0(%a: !flow.agent<@A>, %h: !flow.history):
  %t, %n = flow.ask %a after %h {max_tokens = 0 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:2">} : !flow.agent<@A> -> !flow.text
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: the ask at a.loom:1:2 has no positive token budget

// -----

// The body of a gather takes four values.
flow.workflow @main {
^bb0(%a: !flow.list<!flow.agent<@A>>, %h: !flow.list<!flow.history>, %r: i64):
  %o, %n = flow.gather %a after %h for %r {place = #flow.string<"">} : !flow.list<!flow.agent<@A>>, !flow.list<!flow.history> -> !flow.list<i64>, !flow.list<!flow.history> {
  ^bb1(%m: !flow.agent<@A>):
    flow.yield %r, %r : i64, i64
  }
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: flow.gather's body takes member, history, others, round

// -----

// What the members share follows the body's own arguments.
flow.workflow @main {
^bb0(%a: !flow.list<!flow.agent<@A>>, %h: !flow.list<!flow.history>, %r: i64):
  %o, %n = flow.gather %a after %h for %r {place = #flow.string<"">} : !flow.list<!flow.agent<@A>>, !flow.list<!flow.history> -> !flow.list<i64>, !flow.list<!flow.history> {
  ^bb1(%m: !flow.agent<@A>, %mh: !flow.history, %o1: !flow.list<i64>, %r1: i64):
    flow.yield %r1, %mh : i64, !flow.history
  } sharing {
  ^bb2(%m2: !flow.agent<@A>, %mh2: !flow.history, %o2: !flow.list<i64>, %r2: i64):
    flow.yield %r2 : i64
  }
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: flow.gather's body takes member, history, others, round, and the 1 shared values

// -----

// What the members share is made of the first member's arguments.
flow.workflow @main {
^bb0(%a: !flow.list<!flow.agent<@A>>, %h: !flow.list<!flow.history>, %r: i64):
  %o, %n = flow.gather %a after %h for %r {place = #flow.string<"">} : !flow.list<!flow.agent<@A>>, !flow.list<!flow.history> -> !flow.list<i64>, !flow.list<!flow.history> {
  ^bb1(%m: !flow.agent<@A>, %mh: !flow.history, %o1: !flow.list<i64>, %r1: i64):
    flow.yield %r1, %mh : i64, !flow.history
  } sharing {
  ^bb2(%m2: !flow.agent<@A>):
    flow.yield
  }
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: flow.gather's shared region takes member, history, others, round, and yields

// -----

// The body of a gather yields two values.
flow.workflow @main {
^bb0(%a: !flow.list<!flow.agent<@A>>, %h: !flow.list<!flow.history>, %r: i64):
  %o, %n = flow.gather %a after %h for %r {place = #flow.string<"">} : !flow.list<!flow.agent<@A>>, !flow.list<!flow.history> -> !flow.list<i64>, !flow.list<!flow.history> {
  ^bb1(%m: !flow.agent<@A>, %mh: !flow.history, %others: !flow.list<i64>, %round: i64):
    flow.yield %r : i64
  }
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: flow.gather's body yields its output and the next history

// -----

// The body of a map takes an item, an index and what is carried.
flow.workflow @main {
^bb0(%a: !flow.list<i64>):
  %o = flow.map %a : !flow.list<i64> -> (!flow.list<i64>) {
  ^bb1(%m: i64):
    flow.yield %m : i64
  }
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: flow.map's body takes item, index and what is carried

// -----

// The body of a map yields a value for each result.
flow.workflow @main {
^bb0(%a: !flow.list<i64>):
  %o = flow.map %a : !flow.list<i64> -> (!flow.list<i64>) {
  ^bb1(%m: i64, %i: i64):
    flow.yield
  }
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: flow.map's body yields a value for each result

// -----

// A record has a value for each field.
flow.workflow @main {
^bb0(%a: i64):
  %0 = flow.record (%a : i64) -> !flow.record<"x": i64, "y": i64>
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: flow.record has 1 values for 2 fields

// -----

// A field is one of the record's.
flow.workflow @main {
^bb0(%a: !flow.record<"x": i64, "y": i64>):
  %0 = flow.field %a "z" : !flow.record<"x": i64, "y": i64> -> i64
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: no field 'z'; the record has x, y

// -----

// A field name occurs once.
flow.workflow @main {
  %0 = flow.none : !flow.record<"x": i64, "x": i64>
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: a field name occurs twice in ['x', 'x']

// -----

// A value is defined before it is used.
flow.workflow @main {
  %0 = flow.len %1 : !flow.list<i64>
  %1 = flow.list -> !flow.list<i64>
  flow.return
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}
// CHECK: flow.len uses %a value before it is defined
