package enroll

import (
	"fmt"
	"testing"
	"time"
)

func TestTheLimiterIsPerAddressAndItsMemoryIsBounded(t *testing.T) {
	l := newLimiter()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	passed := 0
	for range 100 {
		if l.allow("a", at) {
			passed++
		}
	}
	if passed != addressBurst {
		t.Errorf("%d calls at once passed, want %d", passed, addressBurst)
	}
	if !l.allow("b", at) {
		t.Error("another address was refused")
	}
	if !l.allow("a", at.Add(time.Second)) {
		t.Error("still refused a second later")
	}
	for n := range 3 * maxAddresses {
		l.allow(fmt.Sprint(n), at.Add(time.Hour+time.Duration(n)*time.Millisecond))
	}
	if len(l.addresses) > maxAddresses {
		t.Errorf("%d addresses kept", len(l.addresses))
	}
}

func TestAnAddressIsItsHostAndForIPv6ItsNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:4711": "192.0.2.1", "192.0.2.1": "192.0.2.1", "[2001:db8::1]:1": "2001:db8::/64", "[2001:db8::ffff:2]:9": "2001:db8::/64",
		"[::ffff:192.0.2.1]:1": "192.0.2.1", "bufconn": "bufconn", "[fe80::1%eth0]:1": "fe80::/64", "": "",
	} {
		if got := source(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}
