// Package sqltext reads and rewrites the statements that pg_dump wrote, token by
// token: which roles a statement names, the same statement for other roles, and
// the same statement for objects that moved to another schema.
//
// It is no parser of SQL. It relies on what pg_dump writes: every name outside
// pg_catalog is qualified, since the search path is empty, and names are quoted
// where they must be. What it does not understand stays as it is; nothing here
// fails, and nothing is guessed: Mentions tells what a rewriting did not reach.
//
//	for _, role := range sqltext.Roles(e.Desc, e.Defn) { … }
//	e.Defn = sqltext.MapRoles(e.Desc, e.Defn, func(r pg.Name) pg.Name { … })
package sqltext
