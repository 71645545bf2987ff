// RUN: tokenloom-opt --split-input-file -p segment-prompts %s | filecheck %s

// Fixed pieces are tokenized each on its own; values stay; markers go around; a text used twice is
// one segment; a text that is used elsewhere stays too.
flow.model @m <"tiny">
flow.agent @Judge {
^bb0(%name : !flow.text):
  %0 = flow.text <"Be fair, ">
  flow.yield %0, %name : !flow.text, !flow.text
} {"model" = @m, "params" = ["name"], "reuse" = #flow<reuse exact>, "importance" = 5 : i64, "temperature" = 0.0 : f64, "top_p" = 1.0 : f64, "stop" = [], "history" = -1 : i64}
flow.agent @Plain {
^bb0:
  flow.yield
} {"model" = @m, "params" = [], "reuse" = #flow<reuse exact>, "importance" = 5 : i64, "temperature" = 0.0 : f64, "top_p" = 1.0 : f64, "stop" = [], "history" = -1 : i64}
flow.workflow @main {
^bb0(%topic : !flow.text):
  %ann = flow.text <"Ann">
  %j = flow.spawn @Judge (%ann : !flow.text) : !flow.agent<@Judge>
  %h = flow.history %j : !flow.agent<@Judge>
  %who = flow.text <"Who?">
  %a, %h1 = flow.ask %j after %h (%who, %topic, %ann : !flow.text, !flow.text, !flow.text) {"max_tokens" = 8 : i64, "answer_type" = #flow.string<"{\"kind\": \"text\"}">, "place" = #flow.string<"a.loom:1:1">} : !flow.agent<@Judge> -> !flow.text
  %b, %h2 = flow.ask %j after %h1 (%who : !flow.text) {"max_tokens" = 8 : i64, "answer_type" = #flow.string<"{\"kind\": \"text\"}">, "place" = #flow.string<"a.loom:2:1">} : !flow.agent<@Judge> -> !flow.text
  flow.return %b : !flow.text
} {"inputs" = #flow.string<"[]">, "result" = #flow.string<"{}">}

// CHECK:       flow.agent @Judge {
// CHECK-NEXT:  ^bb0(%name: !flow.text):
// CHECK-NEXT:    %0 = flow.segment <"Be fair, "> [66, 101, 32, 102, 97, 105, 114, 44, 32]
// CHECK-NEXT:    %1 = flow.segment <"<|im_start|>system\0A"> [256, 115, 121, 115, 116, 101, 109, 10] {marker = true}
// CHECK-NEXT:    %2 = flow.segment <"<|im_end|>\0A"> [257, 10] {marker = true}
// CHECK-NEXT:    flow.yield %1, %0, %name, %2
// No system prompt: no system turn.
// CHECK:       flow.agent @Plain {
// CHECK-NEXT:    flow.yield
// CHECK-NEXT:  }
// CHECK:         %ann = flow.text <"Ann">
// CHECK-NEXT:    %ann_1 = flow.segment <"Ann"> [65, 110, 110]
// CHECK:         %who = flow.segment <"Who?"> [87, 104, 111, 63]
// CHECK-NEXT:    %[[OPEN:.*]] = flow.segment <"<|im_start|>user\0A"> {{.*}} {marker = true}
// CHECK-NEXT:    %[[CLOSE:.*]] = flow.segment <"<|im_end|>\0A<|im_start|>assistant\0A"> {{.*}} {marker = true}
// CHECK-NEXT:    flow.ask %j after %h(%[[OPEN]], %who, %topic, %ann_1, %[[CLOSE]] :
// CHECK-SAME:      close_tokens = array<i32: 257, 10>
// CHECK:         flow.ask %j after %h1(%{{.*}}, %who, %{{.*}} :
