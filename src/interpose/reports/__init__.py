"""Pages that show results: one self-contained file, made of sections and widgets."""
