package catalog

import "strings"

// NameRule says what ValidName wants, for error messages.
const NameRule = "want 1 to 63 letters, digits, dots, dashes and underscores, the first and last a letter or digit"

// ValidName tells whether an agent, an instance or a cluster may be called so;
// see NameRule. Names stand in AGENT/INSTANCE and latest:INSTANCE@TIME, so they
// hold none of "/:@", no space and nothing that a terminal would act on.
func ValidName(name string) bool {
	for i := range len(name) {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || i == len(name)-1 || strings.IndexByte("._-", c) < 0) {
			return false
		}
	}
	return name != "" && len(name) <= 63
}
