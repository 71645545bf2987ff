// RUN: tokenloom-opt --split-input-file -p inline-workflows %s | filecheck %s

// The body stands in the place of the call, and a private workflow goes.
flow.workflow @shout {
^bb0(%x : !flow.text):
  %0 = flow.concat (%x, %x : !flow.text, !flow.text)
  flow.return %0 : !flow.text
} {"sym_visibility" = "private", "inputs" = #flow.string<"[]">, "result" = #flow.string<"{}">}
flow.workflow @main {
^bb0(%t : !flow.text):
  %y = flow.invoke @shout (%t : !flow.text) {"place" = #flow.string<"a.loom:5:1">} -> !flow.text
  %z = flow.invoke @shout (%y : !flow.text) {"place" = #flow.string<"a.loom:6:1">} -> !flow.text
  flow.return %z : !flow.text
} {"inputs" = #flow.string<"[]">, "result" = #flow.string<"{}">}

// CHECK-NOT:     flow.workflow @shout
// CHECK:         flow.workflow @main {
// CHECK-NEXT:    ^bb0(%t: !flow.text):
// CHECK-NEXT:      %y = flow.concat(%t, %t : !flow.text, !flow.text)
// CHECK-NEXT:      %z = flow.concat(%y, %y : !flow.text, !flow.text)
// CHECK-NEXT:      flow.return %z : !flow.text

// -----

// Effects go on from the caller's token; a workflow that can be run on its own stays.
flow.tool @send {"params" = [], "types" = [], "result" = #flow.string<"{}">, "impl" = #flow.string<"t:send">, "timeout_ns" = 1 : i64, "retries" = 0 : i64, "effect" = true}
flow.workflow @twice {
^bb0:
  %effects = flow.token
  %r, %next = flow.effect @send after %effects {"place" = #flow.string<"a.loom:3:1">} -> !flow.text
  flow.return %r, %next : !flow.text, !flow.token
} {"inputs" = #flow.string<"[]">, "result" = #flow.string<"{}">}
flow.workflow @main {
^bb0:
  %effects = flow.token
  %a, %t = flow.invoke @twice (%effects : !flow.token) {"place" = #flow.string<"a.loom:5:1">} -> !flow.text, !flow.token
  flow.return %a, %t : !flow.text, !flow.token
} {"inputs" = #flow.string<"[]">, "result" = #flow.string<"{}">}

// CHECK:         flow.workflow @twice
// CHECK:         flow.workflow @main
// CHECK-NEXT:      %effects = flow.token
// CHECK-NEXT:      %r, %next = flow.effect @send after %effects
// CHECK-NEXT:      flow.return %r, %next

// -----

// A call in the region of a loop; asks copied twice get an ordinal.
flow.workflow @turn {
^bb0(%d : !flow.agent<@D>, %h : !flow.history):
  %a, %n = flow.ask %d after %h {"max_tokens" = 8 : i64, "answer_type" = #flow.string<"{}">, "place" = #flow.string<"a.loom:1:1">} : !flow.agent<@D> -> !flow.text
  flow.return %a, %n : !flow.text, !flow.history
} {"sym_visibility" = "private", "inputs" = #flow.string<"[]">, "result" = #flow.string<"{}">}
flow.workflow @main {
^bb0:
  %d = flow.spawn @D : !flow.agent<@D>
  %h0 = flow.history %d : !flow.agent<@D>
  %zero = arith.constant 0 : i64
  %one = arith.constant 1 : i64
  %h1 = scf.for %i = %zero to %one step %one iter_args(%h = %h0) -> (!flow.history) : i64 {
    %b, %hn = flow.invoke @turn (%d, %h : !flow.agent<@D>, !flow.history) {"place" = #flow.string<"a.loom:5:1">} -> !flow.text, !flow.history
    scf.yield %hn : !flow.history
  }
  %a, %h2 = flow.invoke @turn (%d, %h1 : !flow.agent<@D>, !flow.history) {"place" = #flow.string<"a.loom:6:1">} -> !flow.text, !flow.history
  flow.return %a : !flow.text
} {"inputs" = #flow.string<"[]">, "result" = #flow.string<"{}">}

// CHECK:         flow.workflow @main
// CHECK:           scf.for
// CHECK-NEXT:        %{{.*}}, %{{.*}} = flow.ask %d after %h
// CHECK-NOT:         ordinal
// CHECK:             scf.yield
// CHECK:           flow.ask %d after %h
// CHECK-SAME:        options = #flow.string<"{\22ordinal\22: 1}">
