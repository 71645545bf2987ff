"""Model files, tokenizers, chat templates and the numpy reference. They know nothing of the rest."""
