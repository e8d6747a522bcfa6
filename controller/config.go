package controller

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/copies"
	"github.com/tuskvault/tuskvault/internal/blob/place"
	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/logging"
)

// The folders used when none is named.
const (
	// DefaultStateDir keeps catalog, indexes and spool files.
	DefaultStateDir = "/var/lib/tuskvault"
	// DefaultStore is a folder on the same machine.
	DefaultStore = "file:///var/backups/tuskvault"
	// DefaultListen is every address of the machine.
	DefaultListen = ":7443"
)

// Config is what a controller can be told. docs/OPERATIONS.md has a table of
// the keys.
type Config struct {
	// StateDir keeps catalog, indexes, spool files and what init wrote.
	StateDir string `koanf:"state_dir"`
	// Store is the URL of the repository's store, for example file:///var/backups/tuskvault.
	Store string `koanf:"store"`
	// Unlock refers to the secret that opens the repository: a key file's text, or a passphrase.
	Unlock config.Secret `koanf:"unlock"`
	// Name of the controller, for people.
	Name string `koanf:"name"`
	// Listen is the address agents and operators connect to, HOST:PORT.
	Listen string `koanf:"listen"`
	// Grace is how long calls and uploads under way may go on when the controller stops.
	Grace time.Duration `koanf:"grace"`
	// Log says where log lines go.
	Log LogConfig `koanf:"log"`
	// Jobs are the rules of attempts.
	Jobs JobsConfig `koanf:"jobs"`
	// Scrub says how the store is read in the background.
	Scrub ScrubConfig `koanf:"scrub"`
	// Copies are other stores that are kept in step with Store; at most four.
	Copies []CopyConfig `koanf:"copies"`
	// Prune says how what no snapshot needs is deleted.
	Prune PruneConfig `koanf:"prune"`
	// Delete says when what was forgotten goes.
	Delete DeleteConfig `koanf:"delete"`
}

// PruneConfig says how what no snapshot needs is deleted.
type PruneConfig struct {
	// MinAge is how long condemned packs stay at least, for readers outside the controller.
	MinAge time.Duration `koanf:"min_age"`
	// RepackBytes is what may be copied in one domain at once so that the rest of packs can go.
	RepackBytes config.Size `koanf:"repack_bytes"`
	// Interval is the pause between prunes in the background; 0 turns them off.
	Interval time.Duration `koanf:"interval"`
	// Ballast is kept in a store that is a folder, so that a full one can be pruned; 0 keeps none.
	Ballast config.Size `koanf:"ballast"`
}

// DeleteConfig says when what was forgotten goes. No call can change it: it is the
// answer to a stolen admin's file.
type DeleteConfig struct {
	// Delay between forgetting a snapshot and purging it.
	Delay time.Duration `koanf:"delay"`
}

// The bounds of delete.delay: within the first a person cannot notice.
const (
	minDeleteDelay = time.Hour
	maxDeleteDelay = 366 * 24 * time.Hour
)

// CopyConfig is another store with the same repository in it.
type CopyConfig struct {
	// Name for people: lower-case letters, digits and hyphens.
	Name string `koanf:"name"`
	// Store is its URL; a folder must exist, so that a disk that is not mounted is not filled.
	Store string `koanf:"store"`
	// BytesPerSecond bounds what is read to be copied; 0 means no bound.
	BytesPerSecond config.Size `koanf:"bytes_per_second"`
	// MaxLag is the age of what the copy lacks from which on it is late; 24h when it is not given.
	MaxLag time.Duration `koanf:"max_lag"`
}

// defaultMaxLag is the lag from which on a copy is late.
const defaultMaxLag = 24 * time.Hour

// copyName is what a copy can be called.
var copyName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// ScrubConfig says how the store is read in the background.
type ScrubConfig struct {
	// DailyBytes is what may be read in a day; 0 turns the scrub off.
	DailyBytes config.Size `koanf:"daily_bytes"`
	// Interval is the pause after everything was read.
	Interval time.Duration `koanf:"interval"`
}

// LogConfig says where log lines go.
type LogConfig struct {
	// Level is debug, info, warn or error.
	Level string `koanf:"level"`
	// Format is auto, json or console.
	Format string `koanf:"format"`
	// File to write to; empty means standard error.
	File string `koanf:"file"`
	// MaxSize is when the file is rotated.
	MaxSize config.Size `koanf:"max_size"`
	// MaxAge is how long rotated files are kept.
	MaxAge time.Duration `koanf:"max_age"`
	// MaxFiles is how many rotated files are kept.
	MaxFiles int `koanf:"max_files"`
}

// JobsConfig are the rules of attempts.
type JobsConfig struct {
	// HeartbeatInterval is how often agents say that they live.
	HeartbeatInterval time.Duration `koanf:"heartbeat_interval"`
	// Lease is how long an attempt lives without a heartbeat.
	Lease time.Duration `koanf:"lease"`
	// Attempts is the largest number of attempts of a job.
	Attempts int `koanf:"attempts"`
	// Backoff is the pause before the second attempt; it doubles with each.
	Backoff time.Duration `koanf:"backoff"`
	// PerAgent is the largest number of live attempts of one agent.
	PerAgent int `koanf:"per_agent"`
}

// DefaultConfig has everything but the store, which init decides.
func DefaultConfig() Config {
	return Config{
		Name:   "tuskvault",
		Listen: DefaultListen,
		Grace:  20 * time.Second,
		Log:    LogConfig{Level: "info", Format: "auto", MaxSize: 100 << 20, MaxAge: 30 * 24 * time.Hour, MaxFiles: 10},
		Jobs:   JobsConfig{HeartbeatInterval: 10 * time.Second, Lease: time.Minute, Attempts: 3, Backoff: 10 * time.Second, PerAgent: 2},
		Scrub:  ScrubConfig{DailyBytes: 32 << 30, Interval: 7 * 24 * time.Hour},
		Prune:  PruneConfig{MinAge: 24 * time.Hour, RepackBytes: 16 << 30, Interval: 24 * time.Hour, Ballast: 64 << 20},
		Delete: DeleteConfig{Delay: 72 * time.Hour},
	}
}

// Validate tells everything that cannot be, at once.
func (c *Config) Validate() error {
	var all []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			all = append(all, fmt.Errorf(format+": %w", append(args, errs.Invalid)...))
		}
	}
	_, _, err := net.SplitHostPort(c.Listen)
	bad(err == nil, "listen: %q is not of the form HOST:PORT", c.Listen)
	if c.Store != "" {
		_, err = place.Parse(c.Store)
		bad(err == nil, "store: %v", err)
	}
	_, err = logging.ParseLevel(c.Log.Level)
	bad(err == nil, "log.level: %v", err)
	bad(c.Jobs.HeartbeatInterval >= 100*time.Millisecond, "jobs.heartbeat_interval: %s is below 100ms", c.Jobs.HeartbeatInterval)
	bad(c.Jobs.Lease >= 2*c.Jobs.HeartbeatInterval, "jobs.lease: %s is below two heartbeat intervals (%s)", c.Jobs.Lease, c.Jobs.HeartbeatInterval)
	bad(c.Jobs.Attempts >= 1 && c.Jobs.Attempts <= 1000, "jobs.attempts: %d is not within 1 and 1000", c.Jobs.Attempts)
	bad(c.Jobs.Backoff > 0, "jobs.backoff: %s is not positive", c.Jobs.Backoff)
	bad(c.Jobs.PerAgent >= 1 && c.Jobs.PerAgent <= 100, "jobs.per_agent: %d is not within 1 and 100", c.Jobs.PerAgent)
	bad(c.Scrub.DailyBytes >= 0, "scrub.daily_bytes: %d is negative", c.Scrub.DailyBytes)
	bad(c.Scrub.Interval > 0, "scrub.interval: %s is not positive", c.Scrub.Interval)
	bad(c.Prune.MinAge >= 0, "prune.min_age: %s is negative", c.Prune.MinAge)
	bad(c.Prune.RepackBytes >= 0, "prune.repack_bytes: %d is negative", c.Prune.RepackBytes)
	bad(c.Prune.Interval == 0 || c.Prune.Interval >= time.Minute, "prune.interval: %s is neither 0 nor at least 1m", c.Prune.Interval)
	bad(c.Prune.Ballast >= 0 && c.Prune.Ballast <= 1<<40, "prune.ballast: %d is not within 0 and 1TiB", c.Prune.Ballast)
	bad(c.Delete.Delay >= minDeleteDelay && c.Delete.Delay <= maxDeleteDelay, "delete.delay: %s is not within %s and %s", c.Delete.Delay, minDeleteDelay, maxDeleteDelay)
	c.validateCopies(bad)
	bad(c.Grace >= 0, "grace: %s is negative", c.Grace)
	return errors.Join(all...)
}

// validateCopies tells what is wrong with copies.
func (c *Config) validateCopies(bad func(ok bool, format string, args ...any)) {
	bad(len(c.Copies) <= copies.Max, "copies: %d, there can be %d", len(c.Copies), copies.Max)
	names, stores := map[string]bool{}, map[string]bool{c.Store: c.Store != ""}
	for i, o := range c.Copies {
		bad(copyName.MatchString(o.Name), "copies: entry %d: name %q is not 1 to 32 of a-z, 0-9 and hyphens", i+1, o.Name)
		bad(!names[o.Name], "copies: name %q is there twice", o.Name)
		_, err := place.Parse(o.Store)
		bad(err == nil, "copies: %s: store: %v", o.Name, err)
		bad(!stores[o.Store], "copies: %s: its store is that of another copy or of the repository", o.Name)
		bad(o.BytesPerSecond >= 0, "copies: %s: bytes_per_second: %d is negative", o.Name, o.BytesPerSecond)
		bad(o.MaxLag >= 0, "copies: %s: max_lag: %s is negative", o.Name, o.MaxLag)
		names[o.Name], stores[o.Store] = true, true
	}
}

// The files of a state folder.
func (c *Config) catalogFile() string { return filepath.Join(c.StateDir, "catalog.db") }
func (c *Config) lockFile() string    { return filepath.Join(c.StateDir, "lock") }
func (c *Config) keyFile() string     { return filepath.Join(c.StateDir, "unlock.key") }
func (c *Config) contextFile() string { return filepath.Join(c.StateDir, "admin-context.yaml") }
func (c *Config) spoolFolder() string { return filepath.Join(c.StateDir, "spool") }
func (c *Config) checkFolder() string { return filepath.Join(c.StateDir, "check") }
func (c *Config) pruneFolder() string { return filepath.Join(c.StateDir, "prune") }
func (c *Config) copyFolder() string  { return filepath.Join(c.StateDir, "copy") }
func (c *Config) indexFolder() string { return filepath.Join(c.StateDir, "index") }

// DecisionsFile is the file of a state folder in which init notes what run must know.
func DecisionsFile(state string) string { return filepath.Join(state, "controller.yaml") }

// UnfinishedFile is the file of a state folder that is there while init is not done.
func UnfinishedFile(state string) string { return filepath.Join(state, "init.unfinished") }
