"""Model files, tokenizers, chat templates, the numpy reference. They know nothing of the rest."""
