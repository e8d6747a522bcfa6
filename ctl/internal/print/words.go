package print

import (
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// Size gives bytes for people, in binary units: "1.5 GiB".
func Size(n int64) string {
	if n < 0 {
		return "unknown"
	}
	const units = "KMGTPE"
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, i := float64(n)/1024, 0
	for v >= 1023.95 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}

// Count gives a number with thin groups: "4,000,000".
func Count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Ago gives how long before now a time was: "3m", "5d"; "never" for none.
func Ago(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return "never"
	}
	d := now.Sub(t.AsTime())
	if d < 0 {
		return "in " + Span(-d)
	}
	return Span(d)
}

// Span gives a duration in its largest fitting unit: "45s", "3m", "7h", "12d".
func Span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Span(-d)
	case d < time.Second:
		return "0s"
	case d < 2*time.Minute:
		return strconv.Itoa(int(d/time.Second)) + "s"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + "d"
}

// Time gives a moment in the reader's zone: "2026-11-23 01:43:00".
func Time(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Local().Format(time.DateTime)
}

// Short gives the first eight digits of an id, which the commands accept.
func Short(id string) string {
	if len(id) > 8 {
		return id[:8]
	}
	return id
}

// Version gives server_version_num for people: "15.18".
func Version(num int32) string {
	if num <= 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d", num/10000, num%10000)
}
