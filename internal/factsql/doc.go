// Package factsql words the facts that a snapshot has of roles, tablespaces,
// databases, privileges and settings as statements. It is what restores and
// exported scripts have in common: a statement is without its semicolon, and what
// is conditional, optional or in a transaction is its user's.
//
// Facts come from what an agent once read, and are not believed: every name and
// value is quoted, and a privilege that is no word becomes a statement that fails.
package factsql
