package pg

import "fmt"

// LSN is a position in the write-ahead log.
type LSN uint64

// String gives the form PostgreSQL prints, for example "16/B374D848".
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// ParseLSN reads what PostgreSQL prints.
func ParseLSN(s string) (LSN, error) {
	var hi, lo uint32
	if n, err := fmt.Sscanf(s, "%X/%X", &hi, &lo); err != nil || n != 2 {
		return 0, fmt.Errorf("log position %q: not of the form X/X", s)
	}
	return LSN(hi)<<32 | LSN(lo), nil
}

// Version is server_version_num: 150018 is 15.18.
type Version int

// Major gives the major version, for example 15.
func (v Version) Major() int { return int(v) / 10000 }

// String gives "15.18".
func (v Version) String() string { return fmt.Sprintf("%d.%d", int(v)/10000, int(v)%10000) }
