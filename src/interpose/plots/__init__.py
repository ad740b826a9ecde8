"""Pictures of labelled numbers and of graphs; `interpose.drawing` turns models into graphs."""
