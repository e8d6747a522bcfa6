// Package selection decides what of a database is restored when less than all
// is asked for: patterns of schemas and tables, sections, other names for roles
// and tablespaces, another schema for tables that come beside those in use. All
// of it is pure: from a database of the manifest and its schema archive it makes
// a smaller or rewritten database and archive, which are then restored like whole
// ones. It executes nothing and reads nothing else.
//
//	s, err := selection.New(schemas, tables)
//	part := s.Choose(database, archive)    // part.Database, part.Archive, part.LeftOut …
//
// # What comes along
//
// With a table comes what belongs to it: defaults, constraints, indexes,
// statistics objects, triggers, rules, policies, comments, privileges, sequences
// that it owns; of a partitioned table all partitions. And what these need, by
// the dependencies that the archive records: schemas, types, domains, functions,
// operators, collations, extensions, sequences of defaults, servers of foreign
// tables. Tables that a selected one inherits from come without rows.
//
// A partition that is selected without its parent becomes a plain table.
//
// # What stays out, and is said
//
// Foreign keys to tables that are not selected; views, rules, policies, triggers
// and functions that need a table that is not selected; views that read selected
// tables and are not selected themselves; large objects, publications,
// subscriptions and event triggers, which belong to a database as a whole.
package selection
