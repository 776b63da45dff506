"""For people: the tables, plots and the page of an evaluation or a comparison."""
