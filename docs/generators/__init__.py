"""Writers of the generated reference. Rule: a page is a pure function of the code it describes."""
