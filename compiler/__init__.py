"""From source to bundle: front end, analyses, passes, plan. Devices are descriptions here."""
