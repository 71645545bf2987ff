// RUN: tokenloom-opt --split-input-file --verify-diagnostics -p 'release-contexts' %s | filecheck %s

// Released behind the last request that reads it, after its event; the unused next context at once.
exec.workflow @main {
^bb0(%a: !flow.agent<@A>, %p: !flow.segment):
  %root = exec.root @m : !kv.context<dense>
  %c = exec.extend %root with (%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
  %t = exec.submit %c for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
  %x, %n, %e = exec.await %t -> !flow.text, !kv.context<dense>
  exec.return %x : !flow.text
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      exec.workflow @main {
// CHECK-NEXT: ^bb0(%a: !flow.agent<@A>, %p: !flow.segment):
// CHECK-NEXT: %root = exec.root @m : !kv.context<dense>
// CHECK-NEXT: %c = exec.extend %root with(%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t = exec.submit %c for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
// CHECK-NEXT: %x, %n, %e = exec.await %t -> !flow.text, !kv.context<dense>
// CHECK-NEXT: exec.release %c after(%e) : !kv.context<dense>
// CHECK-NEXT: exec.release %n : !kv.context<dense>
// CHECK-NEXT: exec.return %x : !flow.text
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// A context that two requests fork waits for both; so does what an extension was made of.
exec.workflow @main {
^bb0(%a: !flow.agent<@A>, %p: !flow.segment):
  %root = exec.root @m : !kv.context<dense>
  %c = exec.extend %root with (%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
  %d = exec.extend %c with (%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
  %t = exec.submit %c for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
  %x, %n, %e = exec.await %t -> !flow.text, !kv.context<dense>
  %t2 = exec.submit %d for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
  %x2, %n2, %e2 = exec.await %t2 -> !flow.text, !kv.context<dense>
  exec.return %x : !flow.text
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      exec.workflow @main {
// CHECK-NEXT: ^bb0(%a: !flow.agent<@A>, %p: !flow.segment):
// CHECK-NEXT: %root = exec.root @m : !kv.context<dense>
// CHECK-NEXT: %c = exec.extend %root with(%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %d = exec.extend %c with(%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t = exec.submit %c for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
// CHECK-NEXT: %x, %n, %e = exec.await %t -> !flow.text, !kv.context<dense>
// CHECK-NEXT: exec.release %n : !kv.context<dense>
// CHECK-NEXT: %t2 = exec.submit %d for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
// CHECK-NEXT: %x2, %n2, %e2 = exec.await %t2 -> !flow.text, !kv.context<dense>
// CHECK-NEXT: exec.release %c after(%e, %e2) : !kv.context<dense>
// CHECK-NEXT: exec.release %d after(%e2) : !kv.context<dense>
// CHECK-NEXT: exec.release %n2 : !kv.context<dense>
// CHECK-NEXT: exec.return %x : !flow.text
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// What a list holds, a region reads or a terminator gives on is not released here.
exec.workflow @main {
^bb0(%a: !flow.agent<@A>, %p: !flow.segment, %f: i1):
  %root = exec.root @m : !kv.context<dense>
  %c = exec.extend %root with (%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
  %t = exec.submit %c for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
  %x, %n, %e = exec.await %t -> !flow.text, !kv.context<dense>
  %l = flow.list (%n : !kv.context<dense>) -> !flow.list<!kv.context<dense>>
  %c2 = exec.extend %root with (%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
  scf.if %f {
    %t2 = exec.submit %c2 for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
    %x2, %n2, %e2 = exec.await %t2 -> !flow.text, !kv.context<dense>
  }
  exec.return %x, %l : !flow.text, !flow.list<!kv.context<dense>>
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      exec.workflow @main {
// CHECK-NEXT: ^bb0(%a: !flow.agent<@A>, %p: !flow.segment, %f: i1):
// CHECK-NEXT: %root = exec.root @m : !kv.context<dense>
// CHECK-NEXT: %c = exec.extend %root with(%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t = exec.submit %c for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
// CHECK-NEXT: %x, %n, %e = exec.await %t -> !flow.text, !kv.context<dense>
// CHECK-NEXT: exec.release %c after(%e) : !kv.context<dense>
// CHECK-NEXT: %l = flow.list(%n : !kv.context<dense>) -> !flow.list<!kv.context<dense>>
// CHECK-NEXT: %c2 = exec.extend %root with(%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: scf.if %f {
// CHECK-NEXT: %t2 = exec.submit %c2 for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
// CHECK-NEXT: %x2, %n2, %e2 = exec.await %t2 -> !flow.text, !kv.context<dense>
// CHECK-NEXT: exec.release %n2 : !kv.context<dense>
// CHECK-NEXT: }
// CHECK-NEXT: exec.return %x, %l : !flow.text, !flow.list<!kv.context<dense>>
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}

// -----

// A second run changes nothing.
exec.workflow @main {
^bb0(%a: !flow.agent<@A>, %p: !flow.segment):
  %root = exec.root @m : !kv.context<dense>
  %c = exec.extend %root with (%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
  %t = exec.submit %c for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\"kind\":\"text\"}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
  %x, %n, %e = exec.await %t -> !flow.text, !kv.context<dense>
  exec.release %c after (%e) : !kv.context<dense>
  exec.release %n : !kv.context<dense>
  exec.return %x : !flow.text
} {inputs = #flow.string<"[]">, result = #flow.string<"{\"kind\":\"text\"}">}

// CHECK:      exec.workflow @main {
// CHECK-NEXT: ^bb0(%a: !flow.agent<@A>, %p: !flow.segment):
// CHECK-NEXT: %root = exec.root @m : !kv.context<dense>
// CHECK-NEXT: %c = exec.extend %root with(%p : !flow.segment) dense : !kv.context<dense> -> !kv.context<dense>
// CHECK-NEXT: %t = exec.submit %c for %a {max_tokens = 8 : i64, answer_type = #flow.string<"{\22kind\22:\22text\22}">, place = #flow.string<"a.loom:1:1">, close_tokens = array<i32: 257>, priority = 0 : i64} : !kv.context<dense>, !flow.agent<@A>
// CHECK-NEXT: %x, %n, %e = exec.await %t -> !flow.text, !kv.context<dense>
// CHECK-NEXT: exec.release %c after(%e) : !kv.context<dense>
// CHECK-NEXT: exec.release %n : !kv.context<dense>
// CHECK-NEXT: exec.return %x : !flow.text
// CHECK-NEXT: } {inputs = #flow.string<"[]">, result = #flow.string<"{\22kind\22:\22text\22}">}
