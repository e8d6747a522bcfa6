package repo

// What the tests of bounds need, with bounds small enough for a quick test.
var (
	CheckJSON = checkJSON
	Inflate   = inflate
)
