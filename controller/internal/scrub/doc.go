// Package scrub keeps watch over the repository from inside the controller: a
// Scrubber reads all packs in the background within a budget of bytes a day, a
// Checker runs the checks that operators ask for, and Marks is what both have
// found to be damaged, kept in the catalog and told to the ingest, so that the
// next backup of the same rows heals it.
//
// What is looked at, and what is wrong, is internal/check's to say. Neither
// changes anything in the store.
package scrub
