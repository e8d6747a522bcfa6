package index

// Filter opens the filter to tests.
type Filter struct{ f filter }

// NewFilter makes a filter for n records.
func NewFilter(n uint64) Filter { return Filter{newFilter(n)} }

// Add is filter.add.
func (f Filter) Add(prefix []byte) { f.f.add(prefix) }

// Perhaps is filter.perhaps.
func (f Filter) Perhaps(prefix []byte) bool { return f.f.perhaps(prefix) }
