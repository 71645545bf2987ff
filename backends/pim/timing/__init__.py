"""When commands issue: the event model, its independent checker, closed forms."""
