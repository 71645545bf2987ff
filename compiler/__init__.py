"""From source to bundle: front end, analyses, passes, plan. It sees devices only as descriptions."""
