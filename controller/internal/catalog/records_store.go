package catalog

import "time"

// StoreFeatures is what the store was found to be able to do when it was opened.
type StoreFeatures struct {
	// Location is where it is, without credentials.
	Location string
	// AtomicCreate: the store decides which of two creates wins.
	AtomicCreate bool
	// Versions: what was deleted or overwritten is kept for a time.
	Versions bool
	// Lock is how new objects are locked: "governance", "compliance", or empty.
	Lock string
	// Encryption is in the store's words; StorageClass is what is asked for.
	Encryption, StorageClass string
	// SeparateDeletes: deletes have credentials of their own.
	SeparateDeletes bool
	// Warnings are for people.
	Warnings []string
	// Probed is when it was found.
	Probed time.Time
}

// LockRound is the extending of the locks in one part of the store.
type LockRound struct {
	// Prefix is what the keys of the part start with.
	Prefix string
	// Started is when this round began, zero between two; After is the key extended
	// last in it.
	Started time.Time
	After   string
	// Covered is when the last whole round began: whatever was there then is locked
	// for at least the length of a lock from that moment on.
	Covered time.Time
	// Objects were extended in this round, Failed could not be; CoveredObjects and
	// CoveredFailed are those of the last whole one.
	Objects, Failed               int64
	CoveredObjects, CoveredFailed int64
}
