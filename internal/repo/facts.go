package repo

import (
	"encoding/json"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// ACL is a list of privileges, as aclexplode gives it. A nil ACL means the
// object has its default privileges; an empty one that even those were revoked.
type ACL []ACLItem

// ACLItem is one privilege.
type ACLItem struct {
	Grantor pg.Name `json:"grantor"`
	// Grantee is empty for PUBLIC.
	Grantee   pg.Name `json:"grantee"`
	Privilege string  `json:"privilege"`
	Grantable bool    `json:"grantable"`
}

// RoleFacts is an element of Globals.Roles: the row of pg_authid (of pg_roles
// where the role may not read pg_authid) with a comment added.
type RoleFacts struct {
	Name            pg.Name `json:"rolname"`
	Superuser       bool    `json:"rolsuper"`
	Inherit         bool    `json:"rolinherit"`
	CreateRole      bool    `json:"rolcreaterole"`
	CreateDB        bool    `json:"rolcreatedb"`
	Login           bool    `json:"rolcanlogin"`
	Replication     bool    `json:"rolreplication"`
	BypassRLS       bool    `json:"rolbypassrls"`
	ConnectionLimit int     `json:"rolconnlimit"`
	// Password is the stored hash, nil when there is none or it could not be read.
	Password *string `json:"rolpassword"`
	// ValidUntil is as the server prints it, nil for ever.
	ValidUntil *string `json:"rolvaliduntil"`
	Comment    *string `json:"comment"`
}

// MembershipFacts is an element of Globals.Memberships.
type MembershipFacts struct {
	Role    pg.Name `json:"role"`
	Member  pg.Name `json:"member"`
	Grantor pg.Name `json:"grantor"`
	Admin   bool    `json:"admin_option"`
	// Inherit and Set exist since version 16, nil before.
	Inherit *bool `json:"inherit_option"`
	Set     *bool `json:"set_option"`
}

// SettingFacts is an element of Globals.RoleSettings and of Database.Settings: a
// row of pg_db_role_setting. Role is empty for all roles.
type SettingFacts struct {
	Role pg.Name `json:"role"`
	// Settings are of the form name=value.
	Settings []string `json:"settings"`
}

// TablespaceFacts is an element of Globals.Tablespaces.
type TablespaceFacts struct {
	Name     pg.Name  `json:"name"`
	Owner    pg.Name  `json:"owner"`
	Location string   `json:"location"`
	ACL      ACL      `json:"acl"`
	Options  []string `json:"options"`
	Comment  *string  `json:"comment"`
}

// ParameterFacts is an element of Globals.ParameterACLs (version 15 and later).
type ParameterFacts struct {
	Name string `json:"name"`
	ACL  ACL    `json:"acl"`
}

// LargeObjectFacts is one line of LargeObjects.Meta.
type LargeObjectFacts struct {
	OID     uint32  `json:"oid"`
	Owner   pg.Name `json:"owner"`
	ACL     ACL     `json:"acl,omitempty"`
	Comment *string `json:"comment,omitempty"`
}

// SizeFacts is what a database took on disk when it was read.
type SizeFacts struct {
	// Bytes of all its files, as pg_database_size counts them.
	Bytes int64 `json:"bytes"`
	// Indexes is the part of indexes, by the catalogs' own counts, which may be old.
	Indexes int64 `json:"indexes"`
	// Elsewhere is the part in other tablespaces than the database's own, by the
	// same counts.
	Elsewhere []SpaceFacts `json:"elsewhere,omitempty"`
}

// SpaceFacts is what of a database lies in one tablespace.
type SpaceFacts struct {
	Tablespace pg.Name `json:"tablespace"`
	Bytes      int64   `json:"bytes"`
}

// Bounds of Database.Collations.
const (
	// MaxCollations is the largest number of collations that a writer records.
	MaxCollations = 200
	// MaxCollationUses is the largest number of objects named of one.
	MaxCollationUses = 100
)

// CollationFacts is a collation and what depends on it.
type CollationFacts struct {
	// Schema and Name, both empty for the database's default.
	Schema pg.Name `json:"schema,omitempty"`
	Name   pg.Name `json:"name,omitempty"`
	// Provider is "libc", "icu" or "builtin", Locale its word for it.
	Provider string  `json:"provider"`
	Locale   pg.Name `json:"locale"`
	// Deterministic is false where different texts may be equal.
	Deterministic bool `json:"deterministic"`
	// Version that the provider had when the database was read.
	Version string `json:"version"`
	// Uses are what may change with the version, at most MaxCollationUses; More
	// counts the rest.
	Uses []CollationUse `json:"uses,omitempty"`
	More int64          `json:"more,omitempty"`
}

// CollationUse is an object that depends on a collation. Of partitioned tables
// and indexes only the topmost are named.
type CollationUse struct {
	// Kind is "partition" (the key of a partitioned table), "check" (a constraint
	// that orders texts), "unique" (a unique or excluding index) or "index".
	Kind string `json:"kind"`
	// Schema and Name of the table or index; of a check also the Table.
	Schema pg.Name `json:"schema"`
	Name   pg.Name `json:"name"`
	Table  pg.Name `json:"table,omitempty"`
}

// DatabaseProperties is what CREATE DATABASE and ALTER DATABASE need, whatever
// the source's version called it.
type DatabaseProperties struct {
	Owner      pg.Name
	Tablespace pg.Name
	Encoding   string
	Collate    pg.Name
	Ctype      pg.Name
	// Provider is "libc", "icu" or "builtin"; Locale and ICURules are those of
	// the latter two.
	Provider         string
	Locale           string
	ICURules         string
	CollationVersion string
	ConnectionLimit  int
	AllowConnections bool
	IsTemplate       bool
	ACL              ACL
	Comment          *string
}

// databaseRow has every column name that any supported version uses.
type databaseRow struct {
	Owner            pg.Name `json:"owner"`
	Tablespace       pg.Name `json:"tablespace"`
	Encoding         string  `json:"encoding_name"`
	Collate          pg.Name `json:"datcollate"`
	Ctype            pg.Name `json:"datctype"`
	Provider         string  `json:"datlocprovider"`
	Locale           string  `json:"datlocale"`
	ICULocale        string  `json:"daticulocale"`
	ICURules         string  `json:"daticurules"`
	CollationVersion string  `json:"datcollversion"`
	ConnectionLimit  int     `json:"datconnlimit"`
	AllowConnections bool    `json:"datallowconn"`
	IsTemplate       bool    `json:"datistemplate"`
	ACL              ACL     `json:"acl"`
	Comment          *string `json:"comment"`
}

// PropertiesOf reads a database's Properties: the row of pg_database with the
// owner's, tablespace's and encoding's names, the privileges and the comment added.
func PropertiesOf(d *Database) (DatabaseProperties, error) {
	var r databaseRow
	if err := json.Unmarshal(d.Properties, &r); err != nil {
		return DatabaseProperties{}, fmt.Errorf("properties of database %s: %w: %w", d.Name.Display(), err, errs.Corrupt)
	}
	p := DatabaseProperties{
		Owner: r.Owner, Tablespace: r.Tablespace, Encoding: r.Encoding, Collate: r.Collate, Ctype: r.Ctype,
		Provider: "libc", Locale: r.Locale, ICURules: r.ICURules, CollationVersion: r.CollationVersion,
		ConnectionLimit: r.ConnectionLimit, AllowConnections: r.AllowConnections, IsTemplate: r.IsTemplate,
		ACL: r.ACL, Comment: r.Comment,
	}
	if p.Locale == "" {
		p.Locale = r.ICULocale // until 16
	}
	switch r.Provider {
	case "i":
		p.Provider = "icu"
	case "b":
		p.Provider = "builtin"
	}
	return p, nil
}
