package enroll

import (
	"sync"
	"time"
)

// The rate of enrollment calls. An honest fleet enrolls each host once; a
// roll-out of a thousand hosts still passes in about a minute, from one NAT
// address in a few more. A secret of 256 bits cannot be guessed at any rate:
// the limit protects the controller's processor and its audit trail.
const (
	addressBurst  = 20
	addressPerSec = 2.0
	globalBurst   = 200
	globalPerSec  = 20.0
	// maxAddresses bounds the limiter's memory, about 100 bytes an address.
	// When it is full, buckets that have refilled are dropped first; if none
	// has, strangers share one bucket.
	maxAddresses = 4096
)

// bucket is a token bucket.
type bucket struct {
	tokens float64
	at     time.Time
}

// take removes one token if there is one.
func (b *bucket) take(now time.Time, burst, perSec float64) bool {
	if b.at.IsZero() {
		b.tokens = burst
	} else if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.tokens = min(burst, b.tokens+passed*perSec)
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// full tells whether the bucket would be full now, and so can be forgotten.
func (b *bucket) full(now time.Time, burst, perSec float64) bool {
	return b.tokens+now.Sub(b.at).Seconds()*perSec >= burst
}

// limiter bounds calls per source address and in all.
type limiter struct {
	mu        sync.Mutex
	global    bucket
	strangers bucket
	addresses map[string]*bucket
}

func newLimiter() *limiter { return &limiter{addresses: make(map[string]*bucket)} }

// allow tells whether a call from the address may go on.
func (l *limiter) allow(address string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucketLocked(address, now)
	return b.take(now, addressBurst, addressPerSec) && l.global.take(now, globalBurst, globalPerSec)
}

func (l *limiter) bucketLocked(address string, now time.Time) *bucket {
	if b, ok := l.addresses[address]; ok {
		return b
	}
	if len(l.addresses) >= maxAddresses {
		for a, b := range l.addresses {
			if b.full(now, addressBurst, addressPerSec) {
				delete(l.addresses, a)
			}
		}
	}
	if len(l.addresses) >= maxAddresses {
		return &l.strangers
	}
	b := &bucket{}
	l.addresses[address] = b
	return b
}
