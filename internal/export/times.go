package export

import (
	"fmt"
	"math"
	"strings"
)

// Dates and times in the binary format count from the first day of 2000, days or
// microseconds. They are written in ISO form, which every server reads whatever
// its settings, over PostgreSQL's whole range: from 4713 BC to 294276 AD.

const (
	dayMicros = 24 * 60 * 60 * 1_000_000
	// epochDays is the number of days from 0000-03-01 to 2000-01-01.
	epochDays = 730_425
	// eraDays are those of 400 years.
	eraDays = 146_097
)

// day writes the date that is so many days after 2000-01-01, and whether it is
// before our era, for which a word comes behind the time.
func day(days int64) (text, era string) {
	z := days + epochDays
	n := floorDiv(z, eraDays)
	of := z - n*eraDays
	year := (of - of/1460 + of/36524 - of/146096) / 365
	ofYear := of - (365*year + year/4 - year/100)
	month := (5*ofYear + 2) / 153
	dayOf := ofYear - (153*month+2)/5 + 1
	if month += 3; month > 12 {
		month -= 12
		year++
	}
	if year += n * 400; year <= 0 { // there is no year 0
		year, era = 1-year, " BC"
	}
	return fmt.Sprintf("%04d-%02d-%02d", year, month, dayOf), era
}

func floorDiv(a, b int64) int64 {
	if a < 0 {
		return -((-a + b - 1) / b)
	}
	return a / b
}

func date(b []byte) (string, bool) {
	if len(b) != 4 {
		return "", false
	}
	switch days := signed(b); days {
	case math.MaxInt32:
		return "infinity", true
	case math.MinInt32:
		return "-infinity", true
	default:
		text, era := day(days)
		return text + era, true
	}
}

func timestamp(b []byte, zone string) (string, bool) {
	if len(b) != 8 {
		return "", false
	}
	switch micros := signed(b); micros {
	case math.MaxInt64:
		return "infinity", true
	case math.MinInt64:
		return "-infinity", true
	default:
		days := floorDiv(micros, dayMicros)
		text, era := day(days)
		return text + " " + clock(micros-days*dayMicros) + zone + era, true
	}
}

// clock writes a time of day.
func clock(micros int64) string {
	s := micros / 1_000_000
	return fmt.Sprintf("%02d:%02d:%02d.%06d", s/3600, s/60%60, s%60, micros%1_000_000)
}

func timeOfDay(b []byte) (string, bool) {
	if len(b) != 8 || signed(b) < 0 || signed(b) > dayMicros {
		return "", false
	}
	return clock(signed(b)), true
}

// interval writes each field with its sign and unit, which reads the same in
// every style.
func interval(b []byte) (string, bool) {
	if len(b) != 16 {
		return "", false
	}
	micros, days, months := signed(b[:8]), signed(b[8:12]), signed(b[12:])
	switch {
	case micros == math.MaxInt64 && days == math.MaxInt32 && months == math.MaxInt32:
		return "infinity", true
	case micros == math.MinInt64 && days == math.MinInt32 && months == math.MinInt32:
		return "-infinity", true
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%d mons %d days ", months, days)
	if micros < 0 {
		s.WriteByte('-')
		micros = -micros
	}
	fmt.Fprintf(&s, "%d.%06d secs", uint64(micros)/1_000_000, uint64(micros)%1_000_000)
	return s.String(), true
}
