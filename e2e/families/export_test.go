package families

// Parse reads one file; exported for tests.
var Parse = parse
