// Package api is the controller's border to the wire: one file per service,
// the conversion between records and messages, and the one table that says who
// may call what. Generated messages go no further than this package (and
// ingest, which has the chunk streams).
//
// Every handler runs behind an Authorizer, so it knows its caller; it checks
// each field of its request and refuses with Invalid, naming the field; and it
// returns errors of the kinds of internal/errs, which the server's interceptors
// turn into codes. Changes and reads of data are audited by whoever makes them,
// in the same transaction where there is one.
package api
