package catalog

// Page bounds a list.
type Page struct {
	// Size is the largest number of rows; 0 means DefaultPage, more than MaxPage is Invalid.
	Size int
	// Token is that of the page before, empty for the first.
	Token string
}

// DefaultPage and MaxPage bound the rows of one answer.
const (
	DefaultPage = 100
	MaxPage     = 1000
)
