package plan

import (
	"encoding/hex"
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
)

// fromDisplay reads what pg.Name.Display gives.
func fromDisplay(s string) (pg.Name, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		rest := s[i+1:]
		switch {
		case strings.HasPrefix(rest, `\`):
			b.WriteByte('\\')
			i++
		case strings.HasPrefix(rest, "x") && len(rest) >= 3:
			c, err := hex.DecodeString(rest[1:3])
			if err != nil || c[0] == 0 {
				return "", false
			}
			b.WriteByte(c[0])
			i += 3
		default:
			return "", false
		}
	}
	return pg.Name(b.String()), true
}
