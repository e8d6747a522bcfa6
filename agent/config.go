package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/agent/internal/session"
	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// DefaultStateDir is where an agent keeps its identity and journal when nobody
// named a folder.
const DefaultStateDir = "/var/lib/tuskvault"

// Config is an agent's configuration, as people write it. DefaultConfig has the
// values of keys that are not given.
type Config struct {
	// Controller is the controller's address, host:port. Needed for enrolling,
	// remembered afterwards.
	Controller string `koanf:"controller"`
	// Token is the join token for enrolling.
	Token config.OneTime `koanf:"token"`
	// Name under which the agent wants to be known; the host's when empty.
	Name string `koanf:"name"`
	// StateDir is the agent's state folder.
	StateDir string `koanf:"state_dir"`
	// Allow says what the controller may tell this agent to do.
	Allow []string `koanf:"allow"`
	// Workers is how many jobs may run at once.
	Workers int `koanf:"workers"`
	// OrphanTimeout is how long a job goes on without a controller.
	OrphanTimeout time.Duration `koanf:"orphan_timeout"`
	// TransferMemory bounds the buffers of one job's transfer.
	TransferMemory config.Size `koanf:"transfer_memory"`
	// ToolDirs are searched for pg_dump before the usual places.
	ToolDirs []string `koanf:"tool_dirs"`
	// Instances the agent looks after; without any it is one, "main", reached as
	// libpq would.
	Instances []InstanceConfig `koanf:"instances"`
	// Drill says where and how drills are held.
	Drill DrillConfig `koanf:"drill"`
	// Log says where and how much to log.
	Log LogConfig `koanf:"log"`
}

// DrillConfig says where and how snapshots are restored to prove them.
type DrillConfig struct {
	// Dir is the folder below which each drill has one of its own.
	Dir string `koanf:"dir"`
	// User runs the throw-away server when the agent is root.
	User string `koanf:"user"`
	// Preload lists libraries that may be loaded at the server's start, when an
	// extension of the same name is in the snapshot.
	Preload []string `koanf:"preload"`
	// MinFree is what must stay free on the file system of Dir.
	MinFree config.Size `koanf:"min_free"`
}

// LogConfig says where and how much to log.
type LogConfig struct {
	// Level is debug, info, warn or error.
	Level string `koanf:"level"`
	// Format is auto, json or console.
	Format string `koanf:"format"`
	// File to log to instead of standard error.
	File string `koanf:"file"`
	// MaxSize is when the file is rotated.
	MaxSize config.Size `koanf:"max_size"`
	// MaxAge is how long rotated files are kept.
	MaxAge time.Duration `koanf:"max_age"`
	// MaxFiles is how many rotated files are kept.
	MaxFiles int `koanf:"max_files"`
}

// InstanceConfig says how one instance is reached. What is empty is as libpq
// would have it: PGHOST, PGPORT, PGUSER, PGPASSFILE, PGSERVICE and so on.
type InstanceConfig struct {
	// Name of the instance within the agent.
	Name string `koanf:"name"`
	// Host name, address, or folder of the unix socket.
	Host string `koanf:"host"`
	// Port number.
	Port int `koanf:"port"`
	// User is the role to connect as.
	User string `koanf:"user"`
	// DBName is the database for what concerns the whole instance.
	DBName string `koanf:"dbname"`
	// Service is a section of the service file, ServiceFile its path.
	Service     string `koanf:"service"`
	ServiceFile string `koanf:"service_file"`
	// PassFile is a password file in libpq's format.
	PassFile string `koanf:"passfile"`
	// Password by reference.
	Password config.Secret `koanf:"password"`
	// SSLMode, SSLRootCert, SSLCert and SSLKey are libpq's.
	SSLMode     string `koanf:"sslmode"`
	SSLRootCert string `koanf:"sslrootcert"`
	SSLCert     string `koanf:"sslcert"`
	SSLKey      string `koanf:"sslkey"`
	// ConnectTimeout bounds one attempt to connect.
	ConnectTimeout time.Duration `koanf:"connect_timeout"`
}

// DefaultConfig gives the defaults.
func DefaultConfig() Config {
	return Config{
		Allow:          session.DefaultAllow(),
		Workers:        2, // a restore beside a backup
		OrphanTimeout:  10 * time.Minute,
		TransferMemory: 64 << 20,
		Drill:          DrillConfig{Preload: []string{"pg_stat_statements", "pgaudit"}, MinFree: 1 << 30},
		Log:            LogConfig{Level: "info", Format: "auto", MaxSize: 100 << 20, MaxAge: 30 * 24 * time.Hour, MaxFiles: 10},
	}
}

// Validate tells everything that is wrong with the configuration.
func (c *Config) Validate() error {
	var problems []error
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf(format+": %w", append(args, errs.Invalid)...))
	}
	if _, _, err := net.SplitHostPort(c.Controller); c.Controller != "" && err != nil {
		bad("controller %q: must be host:port", c.Controller)
	}
	if c.Name != "" && !validName(c.Name) {
		bad("name %q: want 1 to 63 letters, digits, dots, dashes and underscores, the first and last a letter or digit", c.Name)
	}
	for _, word := range c.Allow {
		if !slices.Contains(session.AllowWords(), word) {
			bad("allow: %q: must be one of %s", word, strings.Join(session.AllowWords(), ", "))
		}
	}
	if c.Workers < 1 || c.Workers > 32 {
		bad("workers: %d: must be 1 to 32", c.Workers)
	}
	if c.OrphanTimeout < time.Minute {
		bad("orphan_timeout: %s: must be at least 1m", c.OrphanTimeout)
	}
	if c.TransferMemory < 16<<20 {
		bad("transfer_memory: %s: must be at least 16MiB", c.TransferMemory)
	}
	if c.Drill.Dir != "" && !filepath.IsAbs(c.Drill.Dir) {
		bad("drill.dir %q: must be an absolute path", c.Drill.Dir)
	}
	for _, name := range c.Drill.Preload {
		if name == "" || filepath.Base(name) != name {
			bad("drill.preload: %q: must be the name of a library", name)
		}
	}
	seen := map[string]bool{}
	for i, instance := range c.Instances {
		switch {
		case !validName(instance.Name):
			bad("instances entry %d: name %q: want 1 to 63 letters, digits, dots, dashes and underscores, the first and last a letter or digit", i+1, instance.Name)
		case seen[instance.Name]:
			bad("instances entry %d: name %q is there twice", i+1, instance.Name)
		}
		seen[instance.Name] = true
		if err := instance.postgres(nil).Validate(); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// validName is the rule for names of agents and instances. They stand in
// AGENT/INSTANCE and latest:INSTANCE@TIME.
func validName(name string) bool {
	for i := range len(name) {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || i == len(name)-1 || strings.IndexByte("._-", c) < 0) {
			return false
		}
	}
	return name != "" && len(name) <= 63
}

// drillDir gives the folder of drills. The server's user, who is another when the
// agent is root, must get there, and must not get into the state folder.
func (c *Config) drillDir() string {
	switch {
	case c.Drill.Dir != "":
		return c.Drill.Dir
	case os.Geteuid() == 0:
		return strings.TrimSuffix(c.StateDir, "/") + "-drill"
	}
	return filepath.Join(c.StateDir, ownFolder, "drill")
}

// name gives the name to enroll under.
func (c *Config) name() (string, error) {
	if c.Name != "" {
		return c.Name, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find this host's name: %w", err)
	}
	if host = strings.TrimSuffix(host, "."); len(host) > 63 {
		host, _, _ = strings.Cut(host, ".") // the name without its domain
	}
	if !validName(host) {
		return "", fmt.Errorf("this host's name %q is no agent's name; give one with --name: %w", host, errs.Invalid)
	}
	return host, nil
}

// instances gives the instances, at least one.
func (c *Config) instances() []postgres.Config {
	if len(c.Instances) == 0 {
		return []postgres.Config{{Name: "main", ToolDirs: c.ToolDirs}}
	}
	var out []postgres.Config
	for _, i := range c.Instances {
		out = append(out, i.postgres(c.ToolDirs))
	}
	return out
}

// postgres gives the settings for connecting.
func (i InstanceConfig) postgres(toolDirs []string) postgres.Config {
	p := postgres.Config{Name: i.Name, Host: i.Host, Port: i.Port, User: i.User, Maintenance: i.DBName, Service: i.Service,
		ServiceFile: i.ServiceFile, PassFile: i.PassFile, SSLMode: i.SSLMode, SSLRootCert: i.SSLRootCert, SSLCert: i.SSLCert,
		SSLKey: i.SSLKey, ToolDirs: toolDirs, ConnectTimeout: i.ConnectTimeout}
	if !i.Password.IsZero() {
		p.Password = i.Password.Value
	}
	return p
}
