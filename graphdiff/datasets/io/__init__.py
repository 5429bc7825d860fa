"""Reading and writing files that come from strangers: nothing in them is executed."""
