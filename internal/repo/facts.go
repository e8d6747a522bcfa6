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
